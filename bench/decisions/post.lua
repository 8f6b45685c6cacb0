-- What wrk sends: payments of CARDS cards, PIPE requests at once, to TARGET.
local depth, cards = tonumber(os.getenv("PIPE") or "1"), tonumber(os.getenv("CARDS") or "100000")
local target, number = os.getenv("TARGET") or "/v1/endpoints/score", 0
local headers = { ["Content-Type"] = "application/json", ["Host"] = "127.0.0.1" }
local form = '{"id":%d,"card":"c%d","device":"d%d","address":"a%d","amount":%d.25}'
local plain = '{"id":%d,"card":"c%d","amount":%d.25}'
local three = os.getenv("KEYS") == "3"

request = function()
  local all = {}
  for i = 1, depth do
    number = number + 1
    local key = math.random(cards)
    local body = three and string.format(form, number, key, math.random(cards), math.random(cards), number % 900)
      or string.format(plain, number, key, number % 900)
    all[i] = wrk.format("POST", target, headers, body)
  end
  return table.concat(all)
end
