"""people counts in rooms, and fewer writes per webhook."""

import sqlalchemy as sa
from alembic import op


revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None

_LEFT = sa.text('left_at IS NOT NULL')


def _rewritten(table, *, rowid):
    """On SQLite: recreate the table, with or without a rowid, and copy its rows."""
    sqlite = op.get_context().dialect.name == 'sqlite'
    return op.batch_alter_table(
        table, recreate='always' if sqlite else 'never', table_kwargs={'sqlite_with_rowid': rowid}
    )


def upgrade() -> None:
    with _rewritten('rooms', rowid=False) as batch_op:
        batch_op.drop_index('ix_rooms_seen_at')
        batch_op.drop_column('seen_at')
        batch_op.add_column(sa.Column('people', sa.Integer(), nullable=False, server_default='0'))
    with _rewritten('rooms', rowid=False) as batch_op:
        batch_op.alter_column('people', server_default=None, existing_type=sa.Integer(), existing_nullable=False)
    op.execute(
        "UPDATE rooms SET people = (SELECT count(*) FROM participants WHERE participants.room_sid = rooms.sid"
        " AND participants.left_at IS NULL AND participants.kind = 'person') WHERE rooms.finished_at IS NULL"
    )
    with _rewritten('participants', rowid=False) as batch_op:
        batch_op.drop_index('ix_participants_room_name_room_sid')
        batch_op.drop_index('ix_participants_seen_at')
        batch_op.drop_column('seen_at')
    op.create_index('ix_participants_room_sid_left_at', 'participants', ['room_sid', 'left_at'])
    op.create_index('ix_participants_left_at', 'participants', ['left_at'], sqlite_where=_LEFT, postgresql_where=_LEFT)
    with _rewritten('webhook_events', rowid=False):
        pass
    op.drop_index('ix_dispatches_room_name', 'dispatches')
    op.create_index('ix_dispatches_room_name_ended_at', 'dispatches', ['room_name', 'ended_at'])


def downgrade() -> None:
    op.drop_index('ix_dispatches_room_name_ended_at', 'dispatches')
    op.create_index('ix_dispatches_room_name', 'dispatches', ['room_name'])
    with _rewritten('webhook_events', rowid=True):
        pass
    op.drop_index('ix_participants_left_at', 'participants')
    op.drop_index('ix_participants_room_sid_left_at', 'participants')
    for table in ('participants', 'rooms'):
        with _rewritten(table, rowid=True) as batch_op:
            batch_op.add_column(sa.Column('seen_at', sa.BigInteger(), nullable=False, server_default='0'))
        with _rewritten(table, rowid=True) as batch_op:
            batch_op.alter_column('seen_at', server_default=None, existing_type=sa.BigInteger(), existing_nullable=False)
        op.create_index(f'ix_{table}_seen_at', table, ['seen_at'])
    op.create_index('ix_participants_room_name_room_sid', 'participants', ['room_name', 'room_sid'])
    with _rewritten('rooms', rowid=True) as batch_op:
        batch_op.drop_column('people')
