"""policies of agents: their terms, returns, usage and claims."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op


revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None

_FORMER_STATES = ('creating', 'starting', 'active', 'idle', 'unavailable', 'ending', 'ended')
_STATES = ('creating', 'starting', 'active', 'idle', 'unavailable', 'on_hold', 'ending', 'ended')
_FORMER_REASONS = (
    'expired',
    'requested',
    'room_finished',
    'agent_left',
    'agent_failed',
    'never_joined',
    'replaced',
    'duplicate',
    'gone',
)
_REASONS = (*_FORMER_REASONS, 'max_session', 'on_hold')
_VISITORS = ('none', 'phones', 'others')
_MOMENTS = ('vacated_at', 'ready_at', 'session_ends_at', 'warn_at', 'accounted_at')


def upgrade() -> None:
    op.add_column('rooms', sa.Column('phones', sa.Integer(), nullable=False, server_default='0'))
    is_phone = sa.Column('is_phone', sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column('participants', is_phone)
    _set_values(_STATES, _REASONS)
    with op.batch_alter_table('dispatches') as batch:
        batch.add_column(sa.Column('terms', sa.Text()))
        batch.add_column(sa.Column('visitors', sa.String(8), nullable=False, server_default='others'))
        for name in _MOMENTS:
            batch.add_column(sa.Column(name, sa.BigInteger()))
        batch.add_column(sa.Column('requested_by', sa.String(16)))
        batch.create_check_constraint(op.f('ck_dispatches_visitors'), _among('visitors', _VISITORS))
    op.create_table(
        'returns',
        sa.Column('agent_name', sa.String(256), nullable=False),
        sa.Column('day', sa.Integer(), nullable=False),
        sa.Column('bucket', sa.Integer(), nullable=False),
        sa.Column('kept', sa.Integer(), nullable=False),
        sa.Column('lost', sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint('agent_name', 'day', 'bucket', name=op.f('pk_returns')),
        sqlite_with_rowid=False,
    )
    op.create_table(
        'usage',
        sa.Column('day', sa.Integer(), nullable=False),
        sa.Column('dispatch_row_id', sa.String(32), nullable=False),
        sa.Column('agent_name', sa.String(256), nullable=False),
        sa.Column('room_name', sa.String(256), nullable=False),
        sa.Column('starting_us', sa.BigInteger(), nullable=False),
        sa.Column('talked_us', sa.BigInteger(), nullable=False),
        sa.Column('idle_us', sa.BigInteger(), nullable=False),
        sa.Column('unvisited_us', sa.BigInteger(), nullable=False),
        sa.Column('end_reason', sa.String(16)),
        sa.PrimaryKeyConstraint('day', 'dispatch_row_id', name=op.f('pk_usage')),
        sqlite_with_rowid=False,
    )
    op.create_table(
        'claims',
        sa.Column('id', sa.String(32), nullable=False),
        sa.Column('agent_name', sa.String(256), nullable=False),
        sa.Column('room_name', sa.String(256), nullable=False),
        sa.Column('requested_by', sa.String(16)),
        sa.Column('asked_at', sa.BigInteger(), nullable=False),
        sa.Column('granted_at', sa.BigInteger()),
        sa.Column('expires_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_claims')),
    )
    op.create_index('ix_claims_agent_name_asked_at', 'claims', ['agent_name', 'asked_at'])


def downgrade() -> None:
    for table in ('claims', 'usage', 'returns'):
        op.drop_table(table)
    _end_what_is_new()
    with op.batch_alter_table('dispatches') as batch:
        batch.drop_constraint(op.f('ck_dispatches_visitors'), type_='check')
        for name in ('requested_by', *reversed(_MOMENTS), 'visitors', 'terms'):
            batch.drop_column(name)
    _set_values(_FORMER_STATES, _FORMER_REASONS)
    op.drop_column('participants', 'is_phone')
    op.drop_column('rooms', 'phones')


def _end_what_is_new() -> None:
    """The version before knows neither a hold nor the end of a session."""
    op.execute("UPDATE dispatches SET state = 'ended', ended_at = last_activity_at WHERE state = 'on_hold'")
    op.execute("UPDATE dispatches SET end_reason = 'requested' WHERE end_reason IN ('max_session', 'on_hold')")
    op.execute("UPDATE dispatches SET end_reason = 'requested' WHERE state = 'ended' AND end_reason IS NULL")


def _set_values(states: tuple[str, ...], reasons: tuple[str, ...]) -> None:
    """Which states and reasons the table takes, and which states are live."""
    live = sa.text(_among('state', [state for state in states if state not in ('ending', 'ended')]))
    op.drop_index('ux_dispatches_live', 'dispatches')
    with op.batch_alter_table('dispatches') as batch:
        for column, values in (('state', states), ('end_reason', reasons)):
            name = op.f(f'ck_dispatches_{column}')
            batch.drop_constraint(name, type_='check')
            batch.create_check_constraint(name, _among(column, values))
    op.create_index(
        'ux_dispatches_live',
        'dispatches',
        ['room_name', 'agent_name'],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )


def _among(column: str, values: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"
