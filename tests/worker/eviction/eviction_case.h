#ifndef KVEC_TESTS_WORKER_EVICTION_EVICTION_CASE_H_
#define KVEC_TESTS_WORKER_EVICTION_EVICTION_CASE_H_

#include <istream>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/comm/group_comm.h"
#include "worker/eviction/policy.h"
#include "worker/eviction/rank_exchange.h"

namespace kvec::worker::eviction {

// A stack of layers' attention windows and what policies should keep of it: a golden file, or a
// random case of the live test. case_file.py describes the format and writes it.
struct EvictionCase {
  int num_layers = 0;
  int num_heads = 0;  // query heads
  int num_kv_heads = 0;
  int num_queries = 0;
  PolicyParameters parameters;
  bool max_of_queries = false;  // kvec scores by the queries' maximum, not their mean
  std::map<std::string, std::vector<int>> layer_budgets;  // policy → [num_layers]
  std::map<std::string, std::vector<Selection>> keep;     // policy → [num_layers]; may be empty
  std::vector<float> attention;    // [num_layers, num_heads, num_queries, num_candidates]
  std::vector<float> value_norms;  // [num_layers, num_kv_heads, num_candidates]

  int num_candidates() const { return parameters.num_tokens - parameters.observation_window; }
};

// Reads one case. OUT_OF_RANGE at the end of the stream, INVALID_ARGUMENT for anything but a case.
absl::StatusOr<EvictionCase> ReadEvictionCase(std::istream& in);

// A worker's part of a case.
struct CasePart {
  int first_layer = 0;
  int num_layers = 0;
  std::vector<RankHeads> ranks;     // of the stage
  comm::GroupComm* comm = nullptr;  // null: the part is the whole
};

// What the policy keeps of all KV heads, layer by layer; as one worker of a group finds it.
absl::StatusOr<std::vector<Selection>> RunPolicy(const std::string& policy,
                                                 const EvictionCase& eviction_case,
                                                 const CasePart& part);

// By one worker that has everything.
absl::StatusOr<std::vector<Selection>> RunPolicy(const std::string& policy,
                                                 const EvictionCase& eviction_case);

// LayerScores::heads and ::focus of a layer.
struct LayerRows {
  std::vector<std::vector<float>> heads;  // [windows][num_kv_heads, num_candidates]
  std::vector<float> focus;               // [num_candidates], or empty
};

// Of every layer, as one worker that has everything finds them.
absl::StatusOr<std::vector<LayerRows>> LayerRowsOf(const std::string& policy,
                                                   const EvictionCase& eviction_case);

}  // namespace kvec::worker::eviction

#endif  // KVEC_TESTS_WORKER_EVICTION_EVICTION_CASE_H_
