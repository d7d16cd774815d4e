#ifndef KVEC_COORDINATOR_CLIENT_BENCH_REPORT_H_
#define KVEC_COORDINATOR_CLIENT_BENCH_REPORT_H_

#include <string>
#include <vector>

#include "coordinator/client/bench_point.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// A table for people: one row per point.
std::string BenchTable(const std::vector<BenchResult>& results, const v1::CachePolicy& cache);

// One point for programs: one JSON object on one line. `cache` is what the requests asked for.
std::string BenchJson(const BenchResult& result, const v1::CachePolicy& cache);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_BENCH_REPORT_H_
