#include "kernels/cuda/cuda_entry_chooser.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cuda/choice_checks.h"
#include "kernels/cuda/choose_entries.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/head_budgets.h"
#include "kernels/cuda/pool_scores.h"
#include "kernels/cuda/score_rows.h"
#include "kernels/cuda/score_spans.h"
#include "kernels/cuda/window_scores.h"

namespace kvec::kernels::cuda {
namespace {

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
  const auto focus_window = static_cast<size_t>(focus_window_);
  Carver carver(begin);
  for (ScoredLayer& layer : scored_layers_) {
    layer.means =
        carver.Take<float>(static_cast<size_t>(num_windows_ * shape_.num_heads) * candidates);
    layer.scores = carver.Take<float>(heads * candidates);
    layer.focus = focus_window_ == 0 ? nullptr : carver.Take<float>(candidates);
    layer.budgets = carver.Take<int32_t>(heads);
  }
  room_.weights = carver.Take<float>(rows_.joined_by.size() * candidates);
  room_.joined = num_ranks_ == 1
                     ? room_.weights
                     : carver.Take<float>(static_cast<size_t>(rows_.num_joined) * candidates);
  room_.maxima =
      carver.Take<float>(static_cast<size_t>(shape_.num_kv_heads) * focus_window * candidates);
  room_.deviations = carver.Take<float>(heads);
  room_.budget_workspace = carver.Take<uint8_t>(HeadBudgetWorkspaceBytes(num_kv_heads_));
  room_.kept_words = carver.Take<uint32_t>(heads * BitmapWords(n()));
  room_.forced_words = carver.Take<uint32_t>(heads * BitmapWords(n()));
  room_.work_words = carver.Take<uint32_t>(3 * BitmapWords(n()));
  room_.raises = focus_window_ == 0 ? nullptr : carver.Take<double>(candidates);
  room_.span_begins = carver.Take<int32_t>(candidates);
  room_.joined_by = carver.Take<int32_t>(rows_.joined_by.size());
  room_.own_rows = carver.Take<RowRun>(rows_.own.size());
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
  if (array.empty()) return absl::OkStatus();
  KVEC_ASSIGN_OR_RETURN(const T* const uploaded, device_.uploader().Upload(array));
  return ToStatus(cudaMemcpyAsync(to, uploaded, array.size() * sizeof(T), cudaMemcpyDeviceToDevice,
                                  device_.stream()),
                  "choice");
}

absl::Status CudaEntryChooser::UploadPlan(const ChoicePlan& plan) {
  if (const auto* const spans = std::get_if<SpanRules>(&plan.rules.score)) {
    KVEC_RETURN_IF_ERROR(
        UploadArray(spans->span_begins.first(static_cast<size_t>(n())), room_.span_begins));
  }
  KVEC_RETURN_IF_ERROR(UploadArray(plan.layers_selecting, results_.layers_selecting));
  KVEC_RETURN_IF_ERROR(UploadArray(absl::MakeConstSpan(rows_.own), room_.own_rows));
  return UploadArray(absl::MakeConstSpan(rows_.joined_by), room_.joined_by);
}

absl::Status CudaEntryChooser::Begin(const ChoicePlan& plan) {
  KVEC_RETURN_IF_ERROR(CheckPlan(plan));
  rules_ = plan.rules;
  if (auto* const spans = std::get_if<SpanRules>(&rules_.score)) spans->span_begins = {};
  shape_ = plan.shape;
  rows_ = ChoiceRows(plan);
  num_ranks_ = static_cast<int>(plan.ranks.size());
  rank_ = plan.rank;
  first_kv_head_ = plan.ranks[static_cast<size_t>(plan.rank)].first_kv_head;
  num_kv_heads_ = NumKvHeads(plan);
  num_candidates_ = plan.num_candidates;
  num_windows_ = plan.num_windows;
  focus_window_ = plan.focus_window;
  num_layers_before_ = plan.num_layers_before;
  layer_budgets_.clear();
  kept_begins_.assign(1, 0);
  const int64_t all = int64_t{num_kv_heads_} * n();
  for (const int budget : plan.layer_budgets) {
    const int64_t wanted =
        rules_.sure_share.has_value() ? budget : budget / num_kv_heads_ * num_kv_heads_;
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
  return UploadPlan(plan);
}

absl::Status CudaEntryChooser::CheckWindow(const WindowScoreRequest& window) const {
  const auto holds_candidates = [this](const HeadPages& head) { return head.num_entries >= n(); };
  const auto has_candidates = [this](int32_t candidates) { return candidates == n(); };
  if (next_layer_ < num_layers() && static_cast<int>(window.windows.size()) == num_windows_ &&
      window.focus_window == focus_window_ && window.stride == n() &&
      std::all_of(window.heads.begin(), window.heads.end(), holds_candidates) &&
      std::all_of(window.num_candidates.begin(), window.num_candidates.end(), has_candidates)) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("choice: layer ", next_layer_, " of ", num_layers(), ", ",
                                          window.windows.size(), " windows and a focus window of ",
                                          window.focus_window, ", rows of ", window.stride,
                                          " candidates, not ", n()));
}

absl::Status CudaEntryChooser::QueueWindow(const WindowScoreRequest& window, const KvArena& arena) {
  int max_entries = 0;
  for (const HeadPages& head : window.heads) max_entries = std::max(max_entries, head.num_entries);
  KVEC_ASSIGN_OR_RETURN(float* const workspace,
                        window_workspace_.Reserve<float>(
                            WindowWorkspaceFloats(shape_, window.num_queries, max_entries)));
  return device_.QueueWindowScores(shape_, window, arena, scored_layer().means,
                                   focus_window_ == 0 ? nullptr : room_.maxima, workspace);
}

absl::Status CudaEntryChooser::WeighOwn(const WindowScoreRequest& window, const KvArena& arena,
                                        float* weights) {
  std::vector<HeadPages> candidates(window.heads.begin(), window.heads.end());
  for (HeadPages& head : candidates) head.num_entries = n();
  KVEC_RETURN_IF_ERROR(device_.QueueValueNorms(candidates, n(), arena, weights));
  return ToStatus(WeighCandidates(device_.stream(), shape_, scored_layer().means, n(), weights),
                  "weighing candidates");
}

absl::Status CudaEntryChooser::WriteOwnRows(const WindowScoreRequest& window, const KvArena& arena,
                                            float* rows) {
  const int num_own = static_cast<int>(rows_.own.size());
  if (std::holds_alternative<SpanRules>(rules_.score)) {
    KVEC_RETURN_IF_ERROR(WeighOwn(window, arena, rows));
  } else if (num_own > 0) {
    KVEC_RETURN_IF_ERROR(ToStatus(
        SumRows(device_.stream(), scored_layer().means, room_.own_rows, num_own, n(), rows),
        "summing means"));
  }
  if (focus_window_ == 0) return absl::OkStatus();
  return ToStatus(LargestRows(device_.stream(), room_.maxima, shape_.num_kv_heads, focus_window_,
                              n(), rows + static_cast<size_t>(num_own) * static_cast<size_t>(n())),
                  "joining maxima");
}

absl::StatusOr<RankWeights> CudaEntryChooser::ScoreLayer(const WindowScoreRequest& window,
                                                         const KvArena& arena) {
  KVEC_RETURN_IF_ERROR(CheckWindow(window));
  KVEC_RETURN_IF_ERROR(Wait(device_.stream(), scored_layer().chosen));
  const size_t rank_floats = static_cast<size_t>(rows_.rows_per_rank) * static_cast<size_t>(n());
  float* const own = room_.weights + static_cast<size_t>(rank_) * rank_floats;
  KVEC_RETURN_IF_ERROR(QueueWindow(window, arena));
  KVEC_RETURN_IF_ERROR(WriteOwnRows(window, arena, own));
  const auto bytes = [](float* floats, size_t count) {
    return absl::MakeSpan(reinterpret_cast<uint8_t*>(floats), count * sizeof(float));
  };
  return RankWeights{bytes(own, rank_floats),
                     bytes(room_.weights, rank_floats * static_cast<size_t>(num_ranks_))};
}

cudaError_t CudaEntryChooser::Score(const SpanRules& rules) {
  return ScoreSpans(device_.stream(), {.num_kv_heads = num_kv_heads_,
                                       .num_candidates = n(),
                                       .weights = room_.joined,
                                       .span_begins = room_.span_begins,
                                       .span_floor = rules.span_floor,
                                       .tie_break = rules.tie_break,
                                       .decay = rules.decay,
                                       .scores = scored_layer().scores});
}

cudaError_t CudaEntryChooser::Score(const PoolRules& rules) {
  PoolArguments arguments{.sums = room_.joined,
                          .num_kv_heads = num_kv_heads_,
                          .num_candidates = n(),
                          .group_size = shape_.group_size,
                          .radius = rules.radius,
                          .scores = scored_layer().scores};
  cudaError_t error = PoolScores(device_.stream(), arguments);
  if (error != cudaSuccess || rules.num_widened == 0) return error;
  error = Deviations(device_.stream(), arguments.scores, num_kv_heads_, n(), room_.deviations);
  if (error != cudaSuccess) return error;
  arguments.sums += static_cast<size_t>(num_kv_heads_) * static_cast<size_t>(n());
  arguments.deviations = room_.deviations;
  arguments.num_widened = rules.num_widened;
  return PoolScores(device_.stream(), arguments);
}

cudaError_t CudaEntryChooser::Score(const RecencyRules& rules) {
  return ScoreByRecency(device_.stream(), num_kv_heads_, n(), rules.num_sinks,
                        scored_layer().scores);
}

absl::Status CudaEntryChooser::ScoreCandidates() {
  if (num_ranks_ > 1 && rows_.num_joined > 0) {
    KVEC_RETURN_IF_ERROR(
        ToStatus(JoinRows(device_.stream(), {.rows = room_.weights,
                                             .joined_by = room_.joined_by,
                                             .num_rows = static_cast<int>(rows_.joined_by.size()),
                                             .num_candidates = n(),
                                             .num_summed = rows_.num_summed,
                                             .num_joined = rows_.num_joined,
                                             .joined = room_.joined}),
                 "joining weights"));
  }
  KVEC_RETURN_IF_ERROR(
      ToStatus(std::visit([this](const auto& rules) { return Score(rules); }, rules_.score),
               "scoring candidates"));
  if (focus_window_ == 0) return absl::OkStatus();
  const size_t focus_begin = static_cast<size_t>(rows_.num_joined - focus_window_);
  return ToStatus(MeanFocus(device_.stream(), room_.joined + focus_begin * static_cast<size_t>(n()),
                            focus_window_, n(), scored_layer().focus),
                  "focus");
}

absl::Status CudaEntryChooser::ShareLayerBudget() {
  const int budget = layer_budgets_[next_layer_];
  if (!rules_.sure_share.has_value() || budget == 0) return absl::OkStatus();
  const int sure = static_cast<int>(*rules_.sure_share * (budget / num_kv_heads_));
  return ToStatus(ShareBudget(device_.stream(), {.scores = scored_layer().scores,
                                                 .num_kv_heads = num_kv_heads_,
                                                 .num_candidates = n(),
                                                 .layer_budget = budget,
                                                 .sure = sure,
                                                 .budgets = scored_layer().budgets,
                                                 .workspace = room_.budget_workspace}),
                  "sharing a layer's budget");
}

TopEntriesArguments CudaEntryChooser::TopEntries() const {
  const ScoredLayer& scored = scored_layers_[next_layer_ % scored_layers_.size()];
  const int budget = layer_budgets_[next_layer_];
  const bool has_shares = rules_.sure_share.has_value() && budget > 0;
  return {.scores = scored.scores,
          .num_kv_heads = num_kv_heads_,
          .num_candidates = n(),
          .budgets = has_shares ? scored.budgets : nullptr,
          .uniform_budget = budget / num_kv_heads_,
          .layers_selecting = results_.layers_selecting,
          .kept_words = room_.kept_words,
          .counts = results_.counts + next_layer_ * static_cast<size_t>(num_kv_heads_),
          .num_unique = results_.num_unique + next_layer_,
          .kept = results_.kept + kept_begins_[next_layer_]};
}

cudaError_t CudaEntryChooser::Choose(const BestRules&) {
  return KeepTopEntries(choice_stream_, TopEntries());
}

cudaError_t CudaEntryChooser::Choose(const CoverageRules& rules) {
  const TopEntriesArguments top = TopEntries();
  return ChooseEntries(choice_stream_, {.scores = top.scores,
                                        .num_kv_heads = top.num_kv_heads,
                                        .num_candidates = top.num_candidates,
                                        .budgets = top.budgets,
                                        .uniform_budget = top.uniform_budget,
                                        .taken_factor = rules.taken_factor,
                                        .reserved_share = rules.reserved_share,
                                        .reserved_from = rules.reserved_from,
                                        .layers_selecting = top.layers_selecting,
                                        .kept_words = top.kept_words,
                                        .work_words = room_.work_words,
                                        .counts = top.counts,
                                        .num_unique = top.num_unique,
                                        .kept = top.kept});
}

cudaError_t CudaEntryChooser::Choose(const FocusRules& rules) {
  TopEntriesArguments arguments = TopEntries();
  arguments.focus = scored_layer().focus;
  arguments.lambda = rules.lambda;
  arguments.num_forced =
      static_cast<int>(std::floor(rules.forced_share * arguments.uniform_budget));
  arguments.num_layers_before = num_layers_before_ + static_cast<int>(next_layer_);
  arguments.forced_words = room_.forced_words;
  arguments.raises = room_.raises;
  return KeepTopEntries(choice_stream_, arguments);
}

absl::Status CudaEntryChooser::ChooseFromScores() {
  KVEC_RETURN_IF_ERROR(
      ToStatus(std::visit([this](const auto& rules) { return Choose(rules); }, rules_.choice),
               "choosing entries"));
  const uint32_t* const own_kept =
      room_.kept_words + static_cast<size_t>(first_kv_head_) * BitmapWords(n());
  return ToStatus(
      SumLostAttention(choice_stream_, shape_, scored_layer().means, n(), own_kept,
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
