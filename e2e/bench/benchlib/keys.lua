-- For wrk: GET /?id=KEY with a random key of 100,000.
dofile('e2e/bench/benchlib/static.lua')
function init()
   math.randomseed(tonumber(tostring({}):match('0x(%x+)'), 16) % 2147483647) -- each thread another sequence
end
function request()
   return 'GET /?id=' .. math.random(1, 100000) .. ' HTTP/1.1\r\nHost: bench\r\n\r\n'
end
