#ifndef KVEC_WORKER_ENGINE_LAYER_CHOICE_H_
#define KVEC_WORKER_ENGINE_LAYER_CHOICE_H_

#include <cstdint>
#include <vector>

namespace kvec::worker::engine {

// What is to be left of a layer, and what is reported of it.
struct LayerChoice {
  int layer = 0;                           // of this stage
  std::vector<std::vector<int32_t>> kept;  // [num_kv_heads] of this rank: entries, ascending
  int unique_tokens = 0;                   // that some head of the layer keeps
  // Share of the window's attention that this rank's query heads lend to what is kept, as their
  // part of the mean over all query heads of the layer.
  float attention_mass = 0;
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_LAYER_CHOICE_H_
