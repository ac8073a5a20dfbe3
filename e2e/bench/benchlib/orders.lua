-- For wrk: POST of an order by a random user for a random product.
dofile('e2e/bench/benchlib/static.lua')
function init()
   math.randomseed(tonumber(tostring({}):match('0x(%x+)'), 16) % 2147483647) -- each thread another sequence
end
function request()
   local body = string.format('{"user_id":%d,"product_id":%d,"quantity":%d}', math.random(1, 1000), math.random(1, 1000),
      math.random(1, 3))
   return 'POST / HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: ' .. #body .. '\r\n\r\n' .. body
end
