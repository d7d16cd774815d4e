#ifndef KVEC_WORKER_EVICTION_POLICY_H_
#define KVEC_WORKER_EVICTION_POLICY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kernels/entry_chooser.h"
#include "worker/eviction/layer_scores.h"

namespace kvec::worker::eviction {

// What `kvec` was measured with (KVEC.md); requests do not set these.
struct KvecParameters {
  float span_floor = 0.2f;  // η: what a token gets of the best score in its span
  int max_span_tokens = 48;
  double taken_discount = 0.3;  // of P where another head of the layer has the token
  double reserved_share = 0.1;  // of a head's slots beyond reserved_from: for coverage
  int reserved_from = 48;
};

// How a request wants its cache evicted, KVEC.md's parameters, resolved; and what the policy must
// know of the sequence.
struct PolicyParameters {
  int num_tokens = 0;           // T: prompt, or prompt and output, when the eviction comes
  int observation_window = 16;  // O
  int wide_window = 32;         // O', kvec-paper
  float lambda = 1.0f;          // λ, kvec-paper
  float beta = 0.25f;           // β, kvec-paper
  int delta = -1;               // δ, kvec-paper; -1: round(3 G / 8) within 1 … G - 1
  bool adaptive_heads = true;   // kvec: budgets move between the heads of a layer
  KvecParameters kvec{};
  // One byte per token: it closes a sentence (kvec).
  std::vector<uint8_t> sentence_ends{};
};

// What earlier layers kept; handed from layer to layer and from stage to stage.
struct Coverage {
  int num_layers = 0;                      // that have chosen so far: l
  std::vector<uint16_t> layers_selecting;  // n[t], by position
};

// Chooses which candidates each KV head of a layer keeps. One per sequence and eviction; layers are
// put to it in order. A policy is a file, listed once in the registry.
class Policy {
 public:
  virtual ~Policy() = default;

  virtual ScoreNeeds needs() const = 0;

  // How much each head wants each candidate before any coverage, [G, n]; kNotHeld where it lacks
  // it.
  virtual std::vector<float> Scores(const LayerScores& scores) const = 0;

  // `layer_budget`: entries over all G heads, G·k (uniform heads: k = layer_budget / G each). Reads
  // `coverage` of the layers before; the caller adds this layer's with AddSelection.
  virtual Selection Select(const LayerScores& scores, int layer_budget,
                           const Coverage& coverage) const = 0;

  // The same, for G heads, as rules that a device with a chooser follows by itself; they refer to
  // the policy. None: only Select can.
  virtual std::optional<kernels::ChoiceRules> device_rules(int num_kv_heads) const {
    return std::nullopt;
  }
};

// INVALID_ARGUMENT names an unknown policy and lists the known ones. "full" keeps everything and is
// not made.
absl::StatusOr<std::unique_ptr<Policy>> MakePolicy(absl::string_view name,
                                                   PolicyParameters parameters);

std::vector<absl::string_view> PolicyNames();

// Counts what was selected of a layer's candidates in `coverage`.
void AddSelection(const LayerScores& scores, const Selection& selection, Coverage& coverage);

}  // namespace kvec::worker::eviction

#endif  // KVEC_WORKER_EVICTION_POLICY_H_
