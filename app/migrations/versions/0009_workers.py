"""workers that report themselves, and drains."""

import sqlalchemy as sa
from alembic import op


revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'workers',
        sa.Column('id', sa.String(64), nullable=False),
        sa.Column('livekit_id', sa.String(64), nullable=False),
        sa.Column('number', sa.BigInteger(), nullable=False),
        sa.Column('agent_names', sa.Text(), nullable=False),
        sa.Column('deployment', sa.Text(), nullable=False),
        sa.Column('version', sa.String(128), nullable=False),
        sa.Column('helper', sa.String(64), nullable=False),
        sa.Column('slots', sa.Integer()),
        sa.Column('jobs', sa.Text(), nullable=False),
        sa.Column('active', sa.Integer(), nullable=False),
        sa.Column('warm', sa.Integer(), nullable=False),
        sa.Column('load', sa.Double(), nullable=False),
        sa.Column('accepting', sa.Boolean(), nullable=False),
        sa.Column('draining', sa.Boolean(), nullable=False),
        sa.Column('first_seen_at', sa.BigInteger(), nullable=False),
        sa.Column('seen_at', sa.BigInteger(), nullable=False),
        sa.Column('suspected_number', sa.BigInteger()),
        sa.Column('left_at', sa.BigInteger()),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_workers')),
        sqlite_with_rowid=False,
    )
    op.create_table(
        'drains',
        sa.Column('kind', sa.String(16), nullable=False),
        sa.Column('name', sa.String(256), nullable=False),
        sa.Column('requested_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('kind', 'name', name=op.f('pk_drains')),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table('drains')
    op.drop_table('workers')
