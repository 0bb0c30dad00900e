"""warm agents, and what they cost."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op


revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None

_STATES = ('creating', 'starting', 'waiting', 'claimed', 'ending', 'ended')
_ENDS = (
    'not_created',
    'untaken',
    'never_came',
    'never_waited',
    'lost',
    'aged',
    'unwanted',
    'claim_failed',
    'used',
)


def upgrade() -> None:
    op.add_column('dispatches', sa.Column('holding_room', sa.String(256)))
    op.add_column('usage', sa.Column('warm_us', sa.BigInteger(), nullable=False, server_default='0'))
    op.create_table(
        'warm_agents',
        sa.Column('id', sa.String(32), nullable=False),
        sa.Column('agent_name', sa.String(256), nullable=False),
        sa.Column('deployment', sa.Text(), nullable=False),
        sa.Column('state', sa.String(16), nullable=False),
        sa.Column('dispatch_id', sa.String(64)),
        sa.Column('agent_identity', sa.String(256)),
        sa.Column('claimed_by', sa.String(32)),
        sa.Column('created_at', sa.BigInteger(), nullable=False),
        sa.Column('ready_at', sa.BigInteger()),
        sa.Column('claimed_at', sa.BigInteger()),
        sa.Column('ended_at', sa.BigInteger()),
        sa.Column('end_reason', sa.String(16)),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_warm_agents')),
        sa.CheckConstraint(_among('state', _STATES), name=op.f('ck_warm_agents_state')),
        sa.CheckConstraint(_among('end_reason', _ENDS), name=op.f('ck_warm_agents_end_reason')),
    )
    op.create_index('ix_warm_agents_ended_at', 'warm_agents', ['ended_at'])
    op.create_index('ix_warm_agents_agent_name_created_at', 'warm_agents', ['agent_name', 'created_at'])


def downgrade() -> None:
    op.drop_table('warm_agents')
    # The version before would show them as dispatches that cost nothing.
    op.execute("DELETE FROM usage WHERE room_name = ''")
    op.drop_column('usage', 'warm_us')
    op.drop_column('dispatches', 'holding_room')


def _among(column: str, values: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"
