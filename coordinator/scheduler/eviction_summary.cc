#include "coordinator/scheduler/eviction_summary.h"

#include <algorithm>
#include <bitset>
#include <cstddef>

namespace kvec::coordinator::scheduler {

void EvictionSummary::Add(uint32_t worker, uint32_t num_kv_heads,
                          const v1::EvictionReport& report) {
  num_kv_heads_ = num_kv_heads;
  OfWorker& of_worker = workers_[worker];
  of_worker.report = report;
  of_worker.eviction_ms += report.eviction_ms();
  of_worker.exchanged_bytes += report.exchanged_bytes();
  of_worker.exchange_ms += report.exchange_ms();
}

std::map<uint32_t, v1::LayerCacheUsage> EvictionSummary::MergeLayers() const {
  std::map<uint32_t, v1::LayerCacheUsage> layers;
  for (const auto& [number, worker] : workers_) {
    for (const v1::LayerCacheUsage& part : worker.report.layers()) {
      v1::LayerCacheUsage& usage = layers[part.layer()];
      usage.set_layer(part.layer());
      usage.set_budget(part.budget());
      usage.set_kept_entries(usage.kept_entries() + part.kept_entries());
      // Every rank knows what the others' heads chose, and counts it.
      usage.set_unique_tokens(std::max(usage.unique_tokens(), part.unique_tokens()));
      usage.set_attention_mass(usage.attention_mass() + part.attention_mass());
      usage.mutable_kept_token_bits()->MergeFrom(part.kept_token_bits());
    }
  }
  return layers;
}

uint32_t EvictionSummary::CountKeptTokens() const {
  std::string kept;
  for (const auto& [number, worker] : workers_) {
    const std::string& bits = worker.report.kept_token_bits();
    kept.resize(std::max(kept.size(), bits.size()), '\0');
    for (size_t i = 0; i < bits.size(); ++i) kept[i] = static_cast<char>(kept[i] | bits[i]);
  }
  size_t count = 0;
  for (char byte : kept) count += std::bitset<8>(static_cast<unsigned char>(byte)).count();
  return static_cast<uint32_t>(count);
}

void EvictionSummary::Fill(v1::Usage& usage) const {
  const std::map<uint32_t, v1::LayerCacheUsage> layers = MergeLayers();
  if (layers.empty()) {
    usage.set_coverage(1);
    usage.set_mean_layer_coverage(1);
    return;
  }
  const uint32_t num_tokens = workers_.begin()->second.report.position();
  double kept_share = 0;
  double unique_share = 0;
  for (const auto& [number, layer] : layers) {
    *usage.add_layers() = layer;
    kept_share += static_cast<double>(layer.kept_entries()) /
                  (static_cast<double>(num_tokens) * num_kv_heads_);
    unique_share += static_cast<double>(layer.unique_tokens()) / num_tokens;
  }
  const auto num_layers = static_cast<double>(layers.size());
  usage.set_evicted_tokens(
      static_cast<uint32_t>((1 - kept_share / num_layers) * num_tokens + 0.5));
  usage.set_mean_layer_coverage(unique_share / num_layers);
  usage.set_coverage(static_cast<double>(CountKeptTokens()) / num_tokens);
  double eviction_ms = 0;
  double exchange_ms = 0;
  uint64_t exchanged_bytes = 0;
  for (const auto& [number, worker] : workers_) {
    eviction_ms = std::max(eviction_ms, worker.eviction_ms);
    exchange_ms = std::max(exchange_ms, worker.exchange_ms);
    exchanged_bytes += worker.exchanged_bytes;
  }
  usage.set_eviction_ms(eviction_ms);
  usage.set_exchange_ms(exchange_ms);
  usage.set_exchanged_bytes(exchanged_bytes);
}

}  // namespace kvec::coordinator::scheduler
