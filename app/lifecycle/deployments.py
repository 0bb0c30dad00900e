"""Deployments: which of an agent's deployments a dispatch is for."""

from collections.abc import Sequence
from dataclasses import replace

from app.lifecycle.model import Dispatch
from app.lifecycle.policy import Policy
from app.lifecycle.terms import Terms


def choose_deployment(dispatch: Dispatch, terms: Terms, now: int, policy: Policy) -> Dispatch:
    """A new dispatch, for the first of its deployments that works."""
    return _for_first(dispatch, terms.deployments, now, policy) if terms.deployments else dispatch


def next_deployment(dispatch: Dispatch, now: int, policy: Policy) -> Dispatch | None:
    """The dispatch for the deployment after its own that works; None if there is no other."""
    deployments = policy.terms_of(dispatch).deployments
    if deployments is None:
        return None
    listed, own = deployments or ("",), dispatch.briefing.deployment
    after_own = listed.index(own) + 1 if own in listed else 0
    others = [one for one in (*listed[after_own:], *listed[:after_own]) if one != own]
    return _for_first(dispatch, others, now, policy) if others else None


def leave_failing(dispatch: Dispatch, now: int, policy: Policy) -> Dispatch:
    """The dispatch for its own deployment, or for another one if only that works or is still listed."""
    deployments = policy.terms_of(dispatch).deployments
    other = next_deployment(dispatch, now, policy)
    if other is None or deployments is None:
        return dispatch
    is_dropped = dispatch.briefing.deployment not in (deployments or ("",))
    is_worse = policy.fails(dispatch, now) and not policy.fails(other, now)
    return other if is_dropped or is_worse else dispatch


def with_deployments_of(terms: Terms, former: Terms) -> Terms:
    """The terms of a changed policy, for a dispatch with the former ones: a given deployment stays."""
    return replace(terms, deployments=None) if former.deployments is None else terms


def _for_first(dispatch: Dispatch, deployments: Sequence[str], now: int, policy: Policy) -> Dispatch:
    """The dispatch for the first of these that works; for the first one if none does."""
    working = (one for one in deployments if not policy.is_failing(dispatch.agent_name, one, now))
    return replace(dispatch, briefing=replace(dispatch.briefing, deployment=next(working, deployments[0])))
