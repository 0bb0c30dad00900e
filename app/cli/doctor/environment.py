"""Check of the environment: complete, without misspelt names, and safe for a deployment."""

from collections.abc import Mapping

from app.cli.doctor.context import CheckContext
from app.cli.doctor.findings import Finding, Findings, fault, ok, warning
from app.cli.policy import summary
from app.config.settings import ConfigError, Environment

_EXAMPLES: Mapping[str, str] = {
    "LIVEKIT_URL": "export LIVEKIT_URL=wss://<project>.livekit.cloud   (or ws://127.0.0.1:7880)",
    "LIVEKIT_API_KEY": "export LIVEKIT_API_KEY=<key>   (LiveKit Cloud: Settings, Keys)",
    "LIVEKIT_API_SECRET": "export LIVEKIT_API_SECRET=<the secret that was shown with that key>",
    "AGENT_NAME": "export AGENT_NAME=<the agent_name of your worker>",
    "DATABASE_URL": "export DATABASE_URL=sqlite:////var/lib/lifecycle.db   (or postgresql://user:password@host/name)",
    "API_KEYS": 'export API_KEYS="$(openssl rand -hex 24)"',
    "LIVEKIT_WEBHOOK_KEYS": "export LIVEKIT_WEBHOOK_KEYS=<key>:<secret>",
    "AGENTS_FILE": "export AGENTS_FILE=/etc/agent-lifecycle/agents.toml   (docs/policy.md)",
}
#: Variables that platforms set.
_PLATFORMS = ("RAILWAY_ENVIRONMENT_NAME", "RAILWAY_PROJECT_ID", "DYNO", "KUBERNETES_SERVICE_HOST")


def problems(error: ConfigError) -> list[Finding]:
    return [fault(problem, _fix(problem.partition(" ")[0])) for problem in error.problems]


async def check_environment(context: CheckContext) -> Findings:
    for text in context.config.warnings:
        yield warning(text, "correct the name or unset it")
    if not context.config.api_keys:
        yield warning(
            "API_KEYS is not set: nobody can list agents, open the dashboard or request tokens",
            _EXAMPLES["API_KEYS"],
        )
    platform = next((name for name in _PLATFORMS if context.environ.get(name)), None)
    if context.config.environment is Environment.DEV and platform:
        yield warning(
            f"LIFECYCLE_ENV is dev on what looks like a deployment ({platform} is set): anybody gets tokens",
            "unset LIFECYCLE_ENV",
        )
    config = context.config
    yield ok(f"complete: agents {', '.join(config.agent_names)}, mode {config.mode}")
    for agent_name in config.agent_names:
        yield ok(summary(config, agent_name))


def _fix(name: str) -> str:
    if name.endswith(":"):
        return "correct this line   (docs/policy.md)"
    return _EXAMPLES.get(name, f"export {name}=<value>   (docs/configuration.md)")
