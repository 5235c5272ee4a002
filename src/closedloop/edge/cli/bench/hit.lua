-- For wrk: every request is another page view, nine in ten of a random known session, one of a new one.
-- Arguments: name of the run, number of sessions, seed, pause of a connection between two hits in ms.
local path = "/collect"
local body = '{"s":"default","i":"%s","v":"visitor-%s","k":{"ym_uid":"1712345678901234567"},"d":1795000000500,'
  .. '"h":[{"p":"%s-%d","u":"https://shop.example/catalogue/%d?utm_source=yandex","r":"","a":1795000000000,'
  .. '"t":"Catalogue","s":[400],"g":[],"f":[]}]}'
local run, sessions, pause
local sent = 0

function init(args)
  run, sessions, pause = args[1], tonumber(args[2]), tonumber(args[4])
  math.randomseed(tonumber(args[3]))
end

function delay()
  return pause
end

function request()
  sent = sent + 1
  local session
  if sent % 10 == 0 then
    session = string.format("new-%s-%d", run, sent)
  else
    local number = math.random(1, sessions)
    -- The same scattering as in bench_data.py: neighbours in time are no neighbours in the index.
    session = string.format("%08x-%d", (number * 618033989) % 4294967296, number)
  end
  return wrk.format("POST", path, nil, string.format(body, session, session, run, sent, sent % 900))
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"refused":%d,"broken":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration, latency:percentile(50), latency:percentile(99)))
end
