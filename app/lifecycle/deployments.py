"""Deployments: which of an agent's deployments a dispatch is for."""

from dataclasses import replace

from app.lifecycle.model import Dispatch
from app.lifecycle.policy import Policy
from app.lifecycle.terms import Terms


def choose_deployment(dispatch: Dispatch, terms: Terms, policy: Policy) -> Dispatch:
    """The dispatch for the first of its deployments that works; one that it was given stays."""
    if dispatch.briefing.deployment or not terms.deployments:
        return dispatch
    return _for(dispatch, policy.working(dispatch.agent_name, terms.deployments)[0])


def next_deployment(dispatch: Dispatch, policy: Policy) -> Dispatch | None:
    """The dispatch for the deployment after its own that works; None if there is no other."""
    deployments = policy.terms_of(dispatch).deployments
    own = dispatch.briefing.deployment
    if own not in deployments:
        return None
    at = deployments.index(own)
    others = (*deployments[at + 1 :], *deployments[:at])
    return _for(dispatch, policy.working(dispatch.agent_name, others)[0]) if others else None


def leave_failing(dispatch: Dispatch, policy: Policy) -> Dispatch:
    """The dispatch for its own deployment, or for another one if only that works."""
    other = next_deployment(dispatch, policy)
    if other is None or not policy.fails(dispatch) or policy.fails(other):
        return dispatch
    return other


def _for(dispatch: Dispatch, deployment: str) -> Dispatch:
    return replace(dispatch, briefing=replace(dispatch.briefing, deployment=deployment))
