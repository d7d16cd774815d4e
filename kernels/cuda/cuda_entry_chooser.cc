#include "kernels/cuda/cuda_entry_chooser.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cuda/choose_entries.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/head_budgets.h"
#include "kernels/cuda/score_spans.h"
#include "kernels/cuda/window_scores.h"

namespace kvec::kernels::cuda {
namespace {

// Decayed maxima end at kMaxDecayTokens only if they have shrunk to nothing there.
constexpr float kMaxDecay = 0.9f;
constexpr float kMaxTieBreak = 0.1f;

absl::Status CheckRules(const ChoiceRules& rules) {
  const bool has_factor =
      rules.taken_factor == 0 || (rules.taken_factor >= kMinTakenFactor && rules.taken_factor <= 1);
  if (rules.decay >= 0 && rules.decay <= kMaxDecay && rules.tie_break >= 0 &&
      rules.tie_break <= kMaxTieBreak && rules.span_floor >= 0 && has_factor &&
      rules.reserved_share >= 0 && rules.reserved_share <= 1 && rules.reserved_from >= 0 &&
      rules.sure_share >= 0 && rules.sure_share <= 1) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("choice: decay ", rules.decay, ", tie_break ", rules.tie_break, ", span_floor ",
                   rules.span_floor, ", taken_factor ", rules.taken_factor, ", reserved_share ",
                   rules.reserved_share, ", reserved_from ", rules.reserved_from, ", sure_share ",
                   rules.sure_share));
}

absl::Status CheckSpans(absl::Span<const int32_t> span_begins, int num_candidates) {
  for (int t = 0; t < num_candidates; ++t) {
    const int32_t begin = span_begins[static_cast<size_t>(t)];
    if (begin >= 0 && begin <= t && t - begin < kMaxSpanTokens) continue;
    return absl::InvalidArgumentError(absl::StrCat("choice: span of token ", t, " begins at ",
                                                   begin, ", of up to ", kMaxSpanTokens,
                                                   " tokens"));
  }
  return absl::OkStatus();
}

// G, of all ranks.
int NumKvHeads(const ChoicePlan& plan) {
  int num_kv_heads = 0;
  for (const KvHeadRange& range : plan.ranks) {
    num_kv_heads = std::max(num_kv_heads, range.first + range.count);
  }
  return num_kv_heads;
}

absl::Status CheckPlan(const ChoicePlan& plan) {
  const auto n = static_cast<size_t>(plan.num_candidates);
  if (plan.num_candidates < 1 || plan.rules.span_begins.size() < n ||
      plan.layers_selecting.size() != n) {
    return absl::InvalidArgumentError(absl::StrCat(
        "choice: ", plan.num_candidates, " candidates, ", plan.rules.span_begins.size(),
        " span_begins, ", plan.layers_selecting.size(), " layers_selecting"));
  }
  const bool has_rank = plan.rank >= 0 && static_cast<size_t>(plan.rank) < plan.ranks.size();
  const int own_kv_heads = has_rank ? plan.ranks[static_cast<size_t>(plan.rank)].count : 0;
  const int num_kv_heads = NumKvHeads(plan);
  if (own_kv_heads < 1 || own_kv_heads != plan.shape.num_kv_heads ||
      num_kv_heads > kMaxChosenHeads) {
    return absl::InvalidArgumentError(
        absl::StrCat("choice: rank ", plan.rank, " of ", plan.ranks.size(), " with ", own_kv_heads,
                     " KV heads, not ", plan.shape.num_kv_heads, ", of ", num_kv_heads,
                     ", which may be ", kMaxChosenHeads));
  }
  for (const int budget : plan.layer_budgets) {
    if (budget < 0) return absl::InvalidArgumentError(absl::StrCat("choice: budget ", budget));
  }
  KVEC_RETURN_IF_ERROR(CheckRules(plan.rules));
  return CheckSpans(plan.rules.span_begins, plan.num_candidates);
}

// [ranks, rows]: the KV head of each row of the ranks' weights; -1: the rank has fewer.
std::vector<int32_t> RowsOf(absl::Span<const KvHeadRange> ranks) {
  int rows_per_rank = 0;
  for (const KvHeadRange& range : ranks) rows_per_rank = std::max(rows_per_rank, range.count);
  std::vector<int32_t> kv_heads;
  for (const KvHeadRange& range : ranks) {
    for (int i = 0; i < rows_per_rank; ++i) {
      kv_heads.push_back(i < range.count ? range.first + i : -1);
    }
  }
  return kv_heads;
}

// Arrays one behind the other; of null, only their bytes.
class Carver {
 public:
  explicit Carver(uint8_t* begin) : begin_(begin) {}

  template <typename T>
  T* Take(size_t count) {
    constexpr size_t kAlignment = 16;
    bytes_ = (bytes_ + kAlignment - 1) / kAlignment * kAlignment;
    T* const array = begin_ == nullptr ? nullptr : reinterpret_cast<T*>(begin_ + bytes_);
    bytes_ += count * sizeof(T);
    return array;
  }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t* const begin_;
  size_t bytes_ = 0;
};

}  // namespace

CudaEntryChooser::Results CudaEntryChooser::ResultsAt(uint8_t* begin) const {
  Carver carver(begin);
  Results results;
  results.lost = carver.Take<double>(num_layers() * static_cast<size_t>(shape_.num_heads));
  results.counts = carver.Take<int32_t>(num_layers() * static_cast<size_t>(num_kv_heads_));
  results.num_unique = carver.Take<int32_t>(num_layers());
  results.kept = carver.Take<int32_t>(kept_begins_.back());
  results.layers_selecting = carver.Take<uint16_t>(static_cast<size_t>(n()));
  results.bytes = carver.bytes();
  return results;
}

CudaEntryChooser::~CudaEntryChooser() {
  for (const ScoredLayer& layer : scored_layers_) {
    if (layer.scored != nullptr) (void)cudaEventDestroy(layer.scored);
    if (layer.chosen != nullptr) (void)cudaEventDestroy(layer.chosen);
  }
  if (choice_stream_ != nullptr) (void)cudaStreamDestroy(choice_stream_);
}

absl::Status CudaEntryChooser::CreateStream() {
  if (choice_stream_ == nullptr) {
    KVEC_RETURN_IF_ERROR(
        ToStatus(cudaStreamCreateWithFlags(&choice_stream_, cudaStreamNonBlocking), "choice"));
  }
  for (ScoredLayer& layer : scored_layers_) {
    for (cudaEvent_t* const event : {&layer.scored, &layer.chosen}) {
      if (*event != nullptr) continue;
      KVEC_RETURN_IF_ERROR(
          ToStatus(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "choice"));
    }
  }
  return absl::OkStatus();
}

absl::Status CudaEntryChooser::Wait(cudaStream_t stream, cudaEvent_t event) {
  return ToStatus(cudaStreamWaitEvent(stream, event, 0), "choice");
}

size_t CudaEntryChooser::LayOutRoom(uint8_t* begin) {
  const auto heads = static_cast<size_t>(num_kv_heads_);
  const auto candidates = static_cast<size_t>(n());
  Carver carver(begin);
  for (ScoredLayer& layer : scored_layers_) {
    layer.means = carver.Take<float>(static_cast<size_t>(shape_.num_heads) * candidates);
    layer.scores = carver.Take<float>(heads * candidates);
    layer.budgets = carver.Take<int32_t>(heads);
  }
  room_.weights = carver.Take<float>(kv_heads_.size() * candidates);
  room_.joined = num_ranks_ == 1 ? room_.weights : carver.Take<float>(heads * candidates);
  room_.budget_workspace = carver.Take<uint8_t>(HeadBudgetWorkspaceBytes(num_kv_heads_));
  room_.kept_words = carver.Take<uint32_t>(heads * BitmapWords(n()));
  room_.taken_words = carver.Take<uint32_t>(BitmapWords(n()));
  room_.span_begins = carver.Take<int32_t>(candidates);
  room_.kv_heads = carver.Take<int32_t>(kv_heads_.size());
  return carver.bytes();
}

absl::Status CudaEntryChooser::ReserveRoom() {
  KVEC_ASSIGN_OR_RETURN(uint8_t* const room, room_memory_.Reserve<uint8_t>(LayOutRoom(nullptr)));
  LayOutRoom(room);
  KVEC_ASSIGN_OR_RETURN(uint8_t* const results,
                        result_memory_.Reserve<uint8_t>(ResultsAt(nullptr).bytes));
  results_ = ResultsAt(results);
  return absl::OkStatus();
}

// The uploader's copies do not outlive the layers' own uploads.
template <typename T>
absl::Status CudaEntryChooser::UploadArray(absl::Span<const T> array, T* to) {
  KVEC_ASSIGN_OR_RETURN(const T* const uploaded, device_.uploader().Upload(array));
  return ToStatus(cudaMemcpyAsync(to, uploaded, array.size() * sizeof(T), cudaMemcpyDeviceToDevice,
                                  device_.stream()),
                  "choice");
}

absl::Status CudaEntryChooser::Begin(const ChoicePlan& plan) {
  KVEC_RETURN_IF_ERROR(CheckPlan(plan));
  rules_ = plan.rules;
  rules_.span_begins = {};
  shape_ = plan.shape;
  num_ranks_ = static_cast<int>(plan.ranks.size());
  rank_ = plan.rank;
  first_kv_head_ = plan.ranks[static_cast<size_t>(plan.rank)].first;
  num_kv_heads_ = NumKvHeads(plan);
  kv_heads_ = RowsOf(plan.ranks);
  num_candidates_ = plan.num_candidates;
  layer_budgets_.clear();
  kept_begins_.assign(1, 0);
  const int64_t all = int64_t{num_kv_heads_} * n();
  for (const int budget : plan.layer_budgets) {
    const int64_t wanted = rules_.adaptive_heads ? budget : budget / num_kv_heads_ * num_kv_heads_;
    layer_budgets_.push_back(static_cast<int>(std::min(wanted, all)));
    kept_begins_.push_back(kept_begins_.back() + static_cast<size_t>(layer_budgets_.back()));
  }
  next_layer_ = 0;
  KVEC_RETURN_IF_ERROR(CreateStream());
  KVEC_RETURN_IF_ERROR(ReserveRoom());
  // Of a sequence that was given up.
  for (const ScoredLayer& layer : scored_layers_) {
    KVEC_RETURN_IF_ERROR(Wait(device_.stream(), layer.chosen));
  }
  KVEC_RETURN_IF_ERROR(
      UploadArray(plan.rules.span_begins.first(static_cast<size_t>(n())), room_.span_begins));
  KVEC_RETURN_IF_ERROR(UploadArray(plan.layers_selecting, results_.layers_selecting));
  return UploadArray(absl::MakeConstSpan(kv_heads_), room_.kv_heads);
}

absl::Status CudaEntryChooser::CheckWindow(const WindowScoreRequest& window) const {
  const auto holds_candidates = [this](const HeadPages& head) { return head.num_entries >= n(); };
  const auto has_candidates = [this](int32_t candidates) { return candidates == n(); };
  if (next_layer_ < num_layers() && window.windows.size() == 1 && window.maxima == nullptr &&
      window.stride == n() &&
      std::all_of(window.heads.begin(), window.heads.end(), holds_candidates) &&
      std::all_of(window.num_candidates.begin(), window.num_candidates.end(), has_candidates)) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("choice: layer ", next_layer_, " of ", num_layers(), ", ",
                                          window.windows.size(), " windows, rows of ",
                                          window.stride, " candidates, not ", n()));
}

absl::Status CudaEntryChooser::WeighOwn(const WindowScoreRequest& window, const KvArena& arena,
                                        float* weights) {
  std::vector<HeadPages> candidates(window.heads.begin(), window.heads.end());
  int max_entries = 0;
  for (HeadPages& head : candidates) {
    max_entries = std::max(max_entries, head.num_entries);
    head.num_entries = n();
  }
  KVEC_ASSIGN_OR_RETURN(float* const workspace,
                        window_workspace_.Reserve<float>(
                            WindowWorkspaceFloats(shape_, window.num_queries, max_entries)));
  KVEC_RETURN_IF_ERROR(
      device_.QueueWindowScores(shape_, window, arena, scored_layer().means, nullptr, workspace));
  KVEC_RETURN_IF_ERROR(device_.QueueValueNorms(candidates, n(), arena, weights));
  return ToStatus(WeighCandidates(device_.stream(), shape_, scored_layer().means, n(), weights),
                  "weighing candidates");
}

absl::StatusOr<RankWeights> CudaEntryChooser::ScoreLayer(const WindowScoreRequest& window,
                                                         const KvArena& arena) {
  KVEC_RETURN_IF_ERROR(CheckWindow(window));
  KVEC_RETURN_IF_ERROR(Wait(device_.stream(), scored_layer().chosen));
  const size_t rank_floats = static_cast<size_t>(rows_per_rank()) * static_cast<size_t>(n());
  float* const own = room_.weights + static_cast<size_t>(rank_) * rank_floats;
  KVEC_RETURN_IF_ERROR(WeighOwn(window, arena, own));
  const auto bytes = [](float* floats, size_t count) {
    return absl::MakeSpan(reinterpret_cast<uint8_t*>(floats), count * sizeof(float));
  };
  return RankWeights{bytes(own, rank_floats),
                     bytes(room_.weights, rank_floats * static_cast<size_t>(num_ranks_))};
}

absl::Status CudaEntryChooser::ScoreCandidates() {
  if (num_ranks_ > 1) {
    KVEC_RETURN_IF_ERROR(ToStatus(JoinWeights(device_.stream(), room_.weights, room_.kv_heads,
                                              num_rows(), num_kv_heads_, n(), room_.joined),
                                  "joining weights"));
  }
  return ToStatus(ScoreSpans(device_.stream(), {.num_kv_heads = num_kv_heads_,
                                                .num_candidates = n(),
                                                .weights = room_.joined,
                                                .span_begins = room_.span_begins,
                                                .span_floor = rules_.span_floor,
                                                .tie_break = rules_.tie_break,
                                                .decay = rules_.decay,
                                                .scores = scored_layer().scores}),
                  "scoring spans");
}

absl::Status CudaEntryChooser::ShareLayerBudget() {
  const int budget = layer_budgets_[next_layer_];
  if (!rules_.adaptive_heads || budget == 0) return absl::OkStatus();
  const int sure = static_cast<int>(rules_.sure_share * (budget / num_kv_heads_));
  return ToStatus(ShareBudget(device_.stream(), {.scores = scored_layer().scores,
                                                 .num_kv_heads = num_kv_heads_,
                                                 .num_candidates = n(),
                                                 .layer_budget = budget,
                                                 .sure = sure,
                                                 .budgets = scored_layer().budgets,
                                                 .workspace = room_.budget_workspace}),
                  "sharing a layer's budget");
}

absl::Status CudaEntryChooser::ChooseFromScores() {
  const ScoredLayer& scored = scored_layer();
  const int budget = layer_budgets_[next_layer_];
  const bool has_shares = rules_.adaptive_heads && budget > 0;
  const size_t first_head = next_layer_ * static_cast<size_t>(num_kv_heads_);
  const ChooseArguments arguments{.scores = scored.scores,
                                  .num_kv_heads = num_kv_heads_,
                                  .num_candidates = n(),
                                  .budgets = has_shares ? scored.budgets : nullptr,
                                  .uniform_budget = budget / num_kv_heads_,
                                  .taken_factor = rules_.taken_factor,
                                  .reserved_share = rules_.reserved_share,
                                  .reserved_from = rules_.reserved_from,
                                  .layers_selecting = results_.layers_selecting,
                                  .kept_words = room_.kept_words,
                                  .taken_words = room_.taken_words,
                                  .counts = results_.counts + first_head,
                                  .num_unique = results_.num_unique + next_layer_,
                                  .kept = results_.kept + kept_begins_[next_layer_]};
  KVEC_RETURN_IF_ERROR(ToStatus(ChooseEntries(choice_stream_, arguments), "choosing entries"));
  const uint32_t* const own_kept =
      room_.kept_words + static_cast<size_t>(first_kv_head_) * BitmapWords(n());
  return ToStatus(
      SumLostAttention(choice_stream_, shape_, scored.means, n(), own_kept,
                       results_.lost + next_layer_ * static_cast<size_t>(shape_.num_heads)),
      "summing lost attention");
}

absl::Status CudaEntryChooser::ChooseLayer() {
  KVEC_RETURN_IF_ERROR(ScoreCandidates());
  KVEC_RETURN_IF_ERROR(ShareLayerBudget());
  const ScoredLayer& scored = scored_layer();
  KVEC_RETURN_IF_ERROR(ToStatus(cudaEventRecord(scored.scored, device_.stream()), "choice"));
  KVEC_RETURN_IF_ERROR(Wait(choice_stream_, scored.scored));
  KVEC_RETURN_IF_ERROR(ChooseFromScores());
  KVEC_RETURN_IF_ERROR(ToStatus(cudaEventRecord(scored.chosen, choice_stream_), "choice"));
  ++next_layer_;
  return absl::OkStatus();
}

absl::StatusOr<Choice> CudaEntryChooser::Finish() {
  if (next_layer_ != num_layers()) {
    return absl::InternalError(
        absl::StrCat("choice: from ", next_layer_, " layers of ", num_layers()));
  }
  for (const ScoredLayer& layer : scored_layers_) {
    KVEC_RETURN_IF_ERROR(Wait(device_.stream(), layer.chosen));
  }
  std::vector<uint8_t> bytes(results_.bytes);
  KVEC_RETURN_IF_ERROR(device_.Download(results_.lost, absl::MakeSpan(bytes)));
  const Results results = ResultsAt(bytes.data());
  Choice choice;
  for (size_t layer = 0; layer < num_layers(); ++layer) {
    ChosenEntries& chosen = choice.layers.emplace_back();
    const int32_t* kept = results.kept + kept_begins_[layer];
    for (int head = 0; head < num_kv_heads_; ++head) {
      const int32_t count =
          results.counts[layer * static_cast<size_t>(num_kv_heads_) + static_cast<size_t>(head)];
      chosen.kept.emplace_back(kept, kept + count);
      kept += count;
    }
    chosen.num_unique = results.num_unique[layer];
    const double* const lost = results.lost + layer * static_cast<size_t>(shape_.num_heads);
    chosen.lost_attention.assign(lost, lost + shape_.num_heads);
  }
  choice.layers_selecting.assign(results.layers_selecting, results.layers_selecting + n());
  return choice;
}

}  // namespace kvec::kernels::cuda
