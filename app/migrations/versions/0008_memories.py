"""memories of conversations."""

import sqlalchemy as sa
from alembic import op


revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'memories',
        sa.Column('room_sid', sa.String(64), nullable=False),
        sa.Column('agent_name', sa.String(256), nullable=False),
        sa.Column('room_name', sa.String(256), nullable=False),
        sa.Column('job_id', sa.String(64), nullable=False),
        sa.Column('number', sa.BigInteger(), nullable=False),
        sa.Column('key_id', sa.String(16)),
        sa.Column('ciphertext', sa.LargeBinary()),
        sa.Column('saved_at', sa.BigInteger()),
        sa.Column('expires_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('room_sid', 'agent_name', name=op.f('pk_memories')),
    )
    op.create_index(op.f('ix_memories_room_name'), 'memories', ['room_name'])
    op.create_index(op.f('ix_memories_expires_at'), 'memories', ['expires_at'])


def downgrade() -> None:
    op.drop_table('memories')
