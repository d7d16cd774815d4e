#include "kernels/cuda/graph_replayer.h"

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <vector>

#include "common/status_macros.h"
#include "kernels/cuda/cuda_buffer.h"

namespace kvec::kernels::cuda {

GraphCache::Key GraphReplayer::FullKey(const Key& key) const {
  const bool is_layers = key.part == Key::Part::kLayers;
  return {static_cast<int64_t>(key.part), key.first_row, key.num_rows,
          is_layers ? tables_.max_decode_entries() : 0, is_layers ? tables_.num_kept_rows() : 0};
}

absl::Status GraphReplayer::Run(const Key& key, absl::FunctionRef<absl::Status()> work,
                                WorkPeers* peers) {
  return peers == nullptr ? graphs_.Run(FullKey(key), work) : RunWithPeers(key, work, *peers);
}

// NCCL asks that all ranks capture a collective or none does, and that they launch graphs of the
// same capture: "whether an operation launch is graph-captured is considered a collective property
// of that operation". NCCL_GRAPH_REGISTER=0 would not lift that. But what a rank would do by itself
// depends on the entries that its own heads hold after an eviction, and on when its own buffers
// moved. So ranks tell each other, once for all layers of a Step; each then does what follows from
// what all have told. It is a small message between hosts that are about to meet in the first
// layer's sum anyway.
absl::Status GraphReplayer::RunWithPeers(const Key& key, absl::FunctionRef<absl::Status()> work,
                                         WorkPeers& peers) {
  const int64_t mine[] = {graphs_.CanCapture() ? 0 : 1, tables_.max_decode_entries(),
                          NumBufferMoves()};
  KVEC_ASSIGN_OR_RETURN(const std::vector<int64_t> told, peers.Exchange(mine));
  bool can_capture = true;
  std::vector<int64_t> buffer_moves;
  for (size_t i = 0; i < told.size(); i += std::size(mine)) {
    can_capture = can_capture && told[i] == 0;
    tables_.RaiseMaxDecodeEntries(static_cast<int>(told[i + 1]));
    buffer_moves.push_back(told[i + 2]);
  }
  if (!can_capture) return graphs_.RunAsItComes(work);
  return graphs_.RunWithPeers(FullKey(key), work, buffer_moves, peers);
}

}  // namespace kvec::kernels::cuda
