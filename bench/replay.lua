-- Sends the corpus, one webhook per line ("authorization<TAB>body"), and prints the result as JSON.
-- wrk ... -s replay.lua URL -- CORPUS

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  corpus = assert(io.open(args[1], "rb"))
  path = wrk.path
  host = wrk.host .. ":" .. wrk.port
  laps = 0
end

function request()
  local line = corpus:read("*l")
  if line == nil then
    -- A repeated webhook is not new; the result must show that.
    laps = laps + 1
    corpus:seek("set", 0)
    line = corpus:read("*l")
  end
  local tab = line:find("\t", 1, true)
  local body = line:sub(tab + 1)
  return "POST " .. path .. " HTTP/1.1\r\nHost: " .. host
    .. "\r\nContent-Type: application/webhook+json\r\nAuthorization: " .. line:sub(1, tab - 1)
    .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

function done(summary, latency, requests)
  local all_laps = 0
  for _, thread in ipairs(threads) do
    all_laps = all_laps + thread:get("laps")
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "duration_us": %d, "refused": %d, "broken": %d, "laps": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, all_laps,
    latency:percentile(50), latency:percentile(99)))
end
