#ifndef KVEC_COORDINATOR_TEXT_MERGE_TABLE_H_
#define KVEC_COORDINATOR_TEXT_MERGE_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace kvec::coordinator::text {

// The merges of a BPE vocabulary and their order. Filled once, then read from any thread.
class MergeTable {
 public:
  void Reserve(size_t num_merges) { merges_.reserve(num_merges); }

  // Adds a merge that comes after all merges added before; of a pair added twice the first counts.
  void Add(int32_t left, int32_t right, int32_t merged);

  // Merges the neighbours in `ids` until no merge applies, the best merge first and of equal ones
  // the leftmost. O(n log n) for n ids.
  void Apply(std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    uint32_t rank;
    int32_t merged;
  };

  const Merge* Find(int32_t left, int32_t right) const;
  void ApplyToFew(std::vector<int32_t>& ids) const;
  void ApplyToMany(std::vector<int32_t>& ids) const;

  absl::flat_hash_map<uint64_t, Merge> merges_;  // left << 32 | right
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_MERGE_TABLE_H_
