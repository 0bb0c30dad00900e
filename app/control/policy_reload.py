"""The reload of AGENTS_FILE: new policies for what comes, and for what runs if the file says so."""

import asyncio
import logging
from functools import partial

from app.config.agents import AgentPolicy
from app.config.agents_file import AgentsFileError, Running, read_agents_file
from app.config.policy_keys import shown, values_of
from app.config.settings import Config
from app.control.learning import Learning
from app.control.policies import Policies
from app.control.processor import ChangeProcessor, advance_of
from app.database.store import Store
from app.errors import ServiceError
from app.lifecycle import Dispatch, Event, Signal, with_deployments_of
from app.state.changes import Advance
from app.tasks import BackgroundLoop, batches

logger = logging.getLogger(__name__)

#: How many dispatches get their new terms in one commit.
_BATCH = 100


class PolicyReloader:
    def __init__(
        self,
        config: Config,
        store: Store,
        processor: ChangeProcessor,
        policies: Policies,
        learning: Learning,
    ) -> None:
        self._config = config
        self._store = store
        self._processor = processor
        self._policies = policies
        self._learning = learning
        self._loop = BackgroundLoop("policy reload")

    def follow(self, requested: asyncio.Event) -> None:
        """Reload whenever the event is set; requests during a reload become one."""
        self._loop.start(partial(self._follow, requested))

    async def _follow(self, requested: asyncio.Event) -> None:
        while True:
            await requested.wait()
            requested.clear()
            await self.reload()

    async def close(self) -> None:
        await self._loop.close()

    async def start(self) -> None:
        """A restart with a changed file is a reload too."""
        if self._config.running is Running.UPDATE:
            await self.update_running()

    async def reload(self) -> None:
        """Read the file again; with any problem in it everything stays as it is."""
        config = self._config
        if config.agents_file is None:
            return
        try:
            file = await asyncio.to_thread(read_agents_file, config.agents_file, config.agent_names)
        except AgentsFileError as error:
            for problem in error.problems:
                logger.error(  # noqa: TRY400 - the traceback adds nothing
                    "AGENTS_FILE has a problem; the policies stay as they are",
                    extra={"action": "reload", "reason": problem},
                )
            return
        policies = file.policies(config.agent_names, config.default_policy)
        former = dict(self._policies.agents)
        self._policies.replace(policies)
        self._learning.relearn()
        changes = sum(_log_changes(name, former[name], policies[name]) for name in policies)
        logger.info("AGENTS_FILE was read again", extra={"action": "reload", "changes": changes})
        if file.running is Running.UPDATE:
            await self.update_running()

    async def update_running(self) -> None:
        """Give every dispatch that has not ended the policy as it is now."""
        try:
            # The second round is for what was committed with the former policies during the first.
            count = await self._send_terms() + await self._send_terms()
        except ServiceError as error:
            logger.error(  # noqa: TRY400 - the traceback adds nothing
                "Running agents did not all get their new policy; send SIGHUP again",
                extra={"action": "reload", "code": error.code},
            )
        else:
            logger.info("Running agents have the new policy", extra={"action": "reload", "count": count})

    async def _send_terms(self) -> int:
        changes = [change for dispatch in await self._store.live() if (change := self._change(dispatch))]
        async for batch in batches(changes, _BATCH):
            await self._processor.submit(*batch)
        return len(changes)

    def _change(self, dispatch: Dispatch) -> Advance | None:
        terms = self._processor.policy.terms_for(dispatch.agent_name, dispatch.room_name)
        if dispatch.terms:
            terms = with_deployments_of(terms, dispatch.terms)
        if terms == dispatch.terms:
            return None
        return advance_of(dispatch, Signal(event=Event.POLICY_CHANGED, terms=terms))


def _log_changes(agent_name: str, before: AgentPolicy, after: AgentPolicy) -> int:
    was, new = values_of(before), values_of(after)
    changed = [key for key in new if was[key] != new[key]]
    if changed:
        logger.info(
            "The policy of an agent has changed",
            extra={
                "action": "reload",
                "agent": agent_name,
                "before": {key: shown(was[key]) for key in changed},
                "after": {key: shown(new[key]) for key in changed},
            },
        )
    return len(changed)
