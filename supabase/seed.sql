-- After the migrations, on a machine of one's own alone: nothing costs anything there, so nobody need hurry slowly, and who
-- signs in may do as much as the guest it was. What has a price ends at the total of a day all the same.
update public.limits set requests_per_minute = 600, microusd_per_day = null
where scope in ('guest', 'user') and subject = 'each';
update public.limits set requests_per_minute = null, microusd_per_day = null where scope = 'guest' and subject = 'all';
