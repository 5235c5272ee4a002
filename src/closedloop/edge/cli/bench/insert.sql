-- For pgbench: the least that a durable fact can cost, one small row in a transaction of its own.
\set number random(1, 1000000000)
insert into public.bench_row (number) values (:number);
