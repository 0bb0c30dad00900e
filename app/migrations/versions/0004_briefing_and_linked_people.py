"""what agents are told, and when people joined."""

import sqlalchemy as sa
from alembic import op


revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None

_BRIEFING = ('metadata', 'attributes', 'deployment')


def upgrade() -> None:
    op.add_column('dispatches', sa.Column('cause', sa.String(32)))
    op.add_column('dispatches', sa.Column('former_agent', sa.String(256)))
    for name in _BRIEFING:
        op.add_column('dispatches', sa.Column(name, sa.Text(), nullable=False, server_default=''))
    op.add_column('participants', sa.Column('person', sa.String(16)))
    op.add_column('participants', sa.Column('joined_at', sa.BigInteger()))
    announced = sa.Column('is_announced', sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column('participants', announced)


def downgrade() -> None:
    for name in ('is_announced', 'joined_at', 'person'):
        op.drop_column('participants', name)
    for name in (*_BRIEFING, 'former_agent', 'cause'):
        op.drop_column('dispatches', name)
