"""participants keyed by room: the primary key replaces a separate index."""

from alembic import op


revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def _key(*columns):
    """On SQLite: recreate the table and copy its rows."""
    sqlite = op.get_context().dialect.name == 'sqlite'
    rewritten = op.batch_alter_table(
        'participants', recreate='always' if sqlite else 'never', table_kwargs={'sqlite_with_rowid': False}
    )
    with rewritten as batch_op:
        batch_op.drop_constraint('pk_participants', type_='primary')
        batch_op.create_primary_key('pk_participants', list(columns))


def upgrade() -> None:
    op.drop_index('ix_participants_room_sid_left_at', 'participants')
    _key('room_sid', 'sid')


def downgrade() -> None:
    _key('sid')
    op.create_index('ix_participants_room_sid_left_at', 'participants', ['room_sid', 'left_at'])
