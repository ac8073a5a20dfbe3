-- For wrk: the outcome as JSON, on the last line.
function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format('{"requests":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d,"errors":%d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
