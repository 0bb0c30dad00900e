"""counts of people, and indexes for what is asked"""

import sqlalchemy as sa
from alembic import op


revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None

_PRESENT, _LEFT = sa.text('left_at IS NULL'), sa.text('left_at IS NOT NULL')


def upgrade() -> None:
    with op.batch_alter_table('rooms') as batch_op:
        batch_op.drop_index('ix_rooms_seen_at')
        batch_op.drop_column('seen_at')
        batch_op.add_column(sa.Column('people', sa.Integer(), nullable=False, server_default='0'))
    with op.batch_alter_table('rooms') as batch_op:
        batch_op.alter_column('people', server_default=None, existing_type=sa.Integer(), existing_nullable=False)
    op.execute(
        "UPDATE rooms SET people = (SELECT count(*) FROM participants WHERE participants.room_sid = rooms.sid"
        " AND participants.left_at IS NULL AND participants.kind = 'person') WHERE rooms.finished_at IS NULL"
    )
    with op.batch_alter_table('participants') as batch_op:
        batch_op.drop_index('ix_participants_room_name_room_sid')
        batch_op.drop_index('ix_participants_seen_at')
        batch_op.drop_column('seen_at')
    op.create_index('ix_participants_room_sid_left_at', 'participants', ['room_sid', 'left_at'])
    op.create_index('ix_participants_present', 'participants', ['room_name'], sqlite_where=_PRESENT, postgresql_where=_PRESENT)
    op.create_index('ix_participants_left_at', 'participants', ['left_at'], sqlite_where=_LEFT, postgresql_where=_LEFT)
    op.drop_index('ix_dispatches_room_name', 'dispatches')
    op.create_index('ix_dispatches_room_name_ended_at', 'dispatches', ['room_name', 'ended_at'])


def downgrade() -> None:
    op.drop_index('ix_dispatches_room_name_ended_at', 'dispatches')
    op.create_index('ix_dispatches_room_name', 'dispatches', ['room_name'])
    op.drop_index('ix_participants_left_at', 'participants')
    op.drop_index('ix_participants_present', 'participants')
    op.drop_index('ix_participants_room_sid_left_at', 'participants')
    for table in ('participants', 'rooms'):
        with op.batch_alter_table(table) as batch_op:
            batch_op.add_column(sa.Column('seen_at', sa.BigInteger(), nullable=False, server_default='0'))
        with op.batch_alter_table(table) as batch_op:
            batch_op.alter_column('seen_at', server_default=None, existing_type=sa.BigInteger(), existing_nullable=False)
        op.create_index(f'ix_{table}_seen_at', table, ['seen_at'])
    op.create_index('ix_participants_room_name_room_sid', 'participants', ['room_name', 'room_sid'])
    with op.batch_alter_table('rooms') as batch_op:
        batch_op.drop_column('people')
