-- For wrk: GET as a proxy's client sends it, with a trace that is passed on.
dofile('e2e/bench/benchlib/static.lua')
wrk.headers['Host'] = 'hello.bench.example'
wrk.headers['traceparent'] = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
