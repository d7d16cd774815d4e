#include "coordinator/cluster/seating.h"

#include <algorithm>
#include <map>

namespace kvec::coordinator::cluster {
namespace {

// The host of which the most candidates wait; of equals that of the first one.
std::string LargestHost(const std::vector<const SeatCandidate*>& waiting) {
  std::map<std::string, int> counts;
  for (const SeatCandidate* candidate : waiting) ++counts[candidate->host];
  const auto largest = std::max_element(waiting.begin(), waiting.end(), [&](auto* a, auto* b) {
    return counts[a->host] < counts[b->host];
  });
  return (*largest)->host;
}

}  // namespace

std::vector<uint64_t> SeatWorkers(const ParallelShape& shape,
                                  const std::vector<SeatCandidate>& candidates) {
  std::vector<const SeatCandidate*> seats(shape.num_workers(), nullptr);
  std::vector<const SeatCandidate*> waiting;
  for (const SeatCandidate& candidate : candidates) {
    const int seat = candidate.last_seat.value_or(-1);
    if (seat >= 0 && seat < shape.num_workers() && seats[seat] == nullptr) {
      seats[seat] = &candidate;
    } else {
      waiting.push_back(&candidate);
    }
  }
  std::vector<uint64_t> ids;
  for (int stage = 0; stage < shape.num_stages; ++stage) {
    const auto begin = seats.begin() + static_cast<int64_t>(stage) * shape.num_ranks;
    const auto end = begin + shape.num_ranks;
    for (auto seat = begin; seat != end; ++seat) {
      if (*seat == nullptr) {
        const auto seated = std::find_if(begin, end, [](auto* other) { return other != nullptr; });
        std::string host = seated == end ? LargestHost(waiting) : (*seated)->host;
        auto next = std::find_if(waiting.begin(), waiting.end(),
                                 [&](auto* candidate) { return candidate->host == host; });
        if (next == waiting.end()) next = waiting.begin();
        *seat = *next;
        waiting.erase(next);
      }
      ids.push_back((*seat)->id);
    }
  }
  return ids;
}

}  // namespace kvec::coordinator::cluster
