-- Who may hear and speak in private channels is said by policies of this table; without one, nobody.
alter table realtime.messages enable row level security;
