-- What wrk sends: the event of the measurements, PIPE requests at once, BATCH events in each, to TARGET.
local event = '{"ts":1718000000123,"level":"INFO","service":"payment-gateway","host":"node-0421","user_id":88123451,"ip":"203.0.113.77","latency_ms":12.75,"status":200,"msg":"order accepted for settlement queue 7"}'
local depth, batch = tonumber(os.getenv("PIPE") or "1"), tonumber(os.getenv("BATCH") or "1")
local target = os.getenv("TARGET") or "/v1/sources/logs"

init = function()
  local kind = batch > 1 and "application/x-ndjson" or "application/json"
  local request = wrk.format("POST", target, { ["Content-Type"] = kind, ["Host"] = "127.0.0.1" }, string.rep(event, batch, "\n"))
  requests = string.rep(request, depth)
end

request = function() return requests end
