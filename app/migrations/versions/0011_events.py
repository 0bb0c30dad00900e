"""events for other programs, their endpoints and deliveries."""

import sqlalchemy as sa
from alembic import op


revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None

_HAS_POSITION = sa.text('position IS NOT NULL')
_HAS_NONE = sa.text('position IS NULL')


def upgrade() -> None:
    op.create_table(
        'events',
        sa.Column(
            'id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False
        ),
        sa.Column('message_id', sa.String(32), nullable=False),
        sa.Column('at', sa.BigInteger(), nullable=False),
        sa.Column('topic', sa.String(32), nullable=False),
        sa.Column('room_name', sa.String(256), nullable=False),
        sa.Column('data', sa.Text(), nullable=False),
        sa.Column('position', sa.BigInteger()),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_events')),
    )
    op.create_index(
        'ux_events_position',
        'events',
        ['position'],
        unique=True,
        sqlite_where=_HAS_POSITION,
        postgresql_where=_HAS_POSITION,
    )
    op.create_index(
        'ix_events_without_position',
        'events',
        ['id'],
        sqlite_where=_HAS_NONE,
        postgresql_where=_HAS_NONE,
    )
    op.create_table(
        'event_endpoints',
        sa.Column('name', sa.String(512), nullable=False),
        sa.Column('seen_at', sa.BigInteger(), nullable=False),
        sa.Column('failures', sa.Integer(), nullable=False),
        sa.Column('failing_since', sa.BigInteger()),
        sa.Column('due_at', sa.BigInteger()),
        sa.Column('last_error', sa.String(64)),
        sa.Column('last_error_at', sa.BigInteger()),
        sa.Column('delivered', sa.BigInteger(), nullable=False),
        sa.Column('delivered_at', sa.BigInteger()),
        sa.Column('given_up', sa.BigInteger(), nullable=False),
        sa.Column('disabled_at', sa.BigInteger()),
        sa.PrimaryKeyConstraint('name', name=op.f('pk_event_endpoints')),
    )
    op.create_table(
        'event_deliveries',
        sa.Column('endpoint', sa.String(512), nullable=False),
        sa.Column('position', sa.BigInteger(), nullable=False),
        sa.Column('room_name', sa.String(256), nullable=False),
        sa.Column('queued_at', sa.BigInteger(), nullable=False),
        sa.Column('attempts', sa.Integer(), nullable=False),
        sa.Column('due_at', sa.BigInteger(), nullable=False),
        sa.Column('leased_by', sa.String(32)),
        sa.Column('leased_until', sa.BigInteger()),
        sa.PrimaryKeyConstraint('endpoint', 'position', name=op.f('pk_event_deliveries')),
        sqlite_with_rowid=False,
    )
    op.create_index(
        'ix_event_deliveries_endpoint_room_name_position',
        'event_deliveries',
        ['endpoint', 'room_name', 'position'],
    )
    op.create_index('ix_event_deliveries_endpoint_due_at', 'event_deliveries', ['endpoint', 'due_at'])


def downgrade() -> None:
    op.drop_table('event_deliveries')
    op.drop_table('event_endpoints')
    op.drop_table('events')
