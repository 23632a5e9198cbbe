-- Our own schema; its comment is how a later run tells that it is ours.
create schema walcast;
comment on schema walcast is 'walcast';
