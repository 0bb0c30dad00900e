"""sessions of the dashboard that were signed out."""

import sqlalchemy as sa
from alembic import op


revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'ended_sessions',
        sa.Column('id', sa.String(64), primary_key=True),
        sa.Column('expires_at', sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table('ended_sessions')
