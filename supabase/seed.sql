-- After the migrations, on a machine of one's own alone: nothing costs anything there, so guests need not hurry slowly.
update public.limits set requests_per_minute = 600, microusd_per_day = null where scope = 'guest' and subject = 'each';
update public.limits set requests_per_minute = null, microusd_per_day = null where scope = 'guest' and subject = 'all';
