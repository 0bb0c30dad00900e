"""an end reason: drained."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op


revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None

_FORMER = (
    'expired',
    'requested',
    'room_finished',
    'agent_left',
    'agent_failed',
    'never_joined',
    'replaced',
    'duplicate',
    'gone',
    'max_session',
    'on_hold',
)


def upgrade() -> None:
    _set_reasons((*_FORMER, 'drained'))


def downgrade() -> None:
    op.execute("UPDATE dispatches SET end_reason = 'replaced' WHERE end_reason = 'drained'")
    _set_reasons(_FORMER)


def _set_reasons(reasons: Sequence[str]) -> None:
    listed = ', '.join(repr(reason) for reason in reasons)
    name = op.f('ck_dispatches_end_reason')
    with op.batch_alter_table('dispatches') as batch:
        batch.drop_constraint(name, type_='check')
        batch.create_check_constraint(name, f'end_reason IN ({listed})')
