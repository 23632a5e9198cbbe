-- Every role, and whether a token may claim it: granted to our login, never our login itself, never a superuser,
-- never one of Postgres' own. A superuser is a member of every role without a grant, so for such a login only roles
-- that cannot log in count: the other ones are people and services.
select r.rolname,
       r.rolbypassrls,
       not r.rolsuper
         and r.rolname <> current_user
         and r.rolname <> session_user
         and r.rolname not like 'pg\_%'
         and pg_catalog.pg_has_role(current_user, r.oid,
               case when pg_catalog.current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end)
         and (not me.rolsuper or not r.rolcanlogin) as claimable
from pg_catalog.pg_roles r
cross join (select rolsuper from pg_catalog.pg_roles where rolname = current_user) me
order by r.rolname
