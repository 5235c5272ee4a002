-- For wrk: every request is another conversion (its own deal) of a random session, as a CRM would send it.
-- Arguments: name of the run, number of sessions, seed.
local path = "/functions/v1/crm-conversion-hook"
local body = '{"session_id":"%s","goal_name":"payment_success","goal_value":"%d.00","currency":"RUB","deal_id":"%s-%d"}'
local run, sessions
local sent = 0

function init(args)
  run, sessions = args[1], tonumber(args[2])
  math.randomseed(tonumber(args[3]))
end

function request()
  sent = sent + 1
  local number = math.random(1, sessions)
  -- The same scattering as in bench_data.py: neighbours in time are no neighbours in the index.
  local session = string.format("%08x-%d", (number * 618033989) % 4294967296, number)
  return wrk.format("POST", path, nil, string.format(body, session, math.random(100, 99999), run, sent))
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"refused":%d,"broken":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration, latency:percentile(50), latency:percentile(99)))
end
