// run_policies: reads eviction cases (case_file.py) from standard input and writes a line of JSON
// for each, {policy: [num_layers][num_kv_heads][kept candidates]}, of the policies it has budgets
// for.

#include <iostream>

#include "nlohmann/json.hpp"
#include "tests/worker/eviction/eviction_case.h"

int main() {
  using kvec::worker::eviction::ReadEvictionCase;
  using kvec::worker::eviction::RunPolicy;
  while (true) {
    const auto eviction_case = ReadEvictionCase(std::cin);
    if (absl::IsOutOfRange(eviction_case.status())) return 0;
    if (!eviction_case.ok()) {
      std::cerr << eviction_case.status() << std::endl;
      return 1;
    }
    nlohmann::json keep = nlohmann::json::object();
    for (const auto& [policy, budgets] : eviction_case->layer_budgets) {
      const auto selections = RunPolicy(policy, *eviction_case);
      if (!selections.ok()) {
        std::cerr << selections.status() << std::endl;
        return 1;
      }
      keep[policy] = *selections;
    }
    std::cout << keep.dump() << std::endl;  // flushes: the other side waits
  }
}
