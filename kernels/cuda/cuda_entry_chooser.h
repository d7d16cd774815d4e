#ifndef KVEC_KERNELS_CUDA_CUDA_ENTRY_CHOOSER_H_
#define KVEC_KERNELS_CUDA_CUDA_ENTRY_CHOOSER_H_

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/cuda/choice_rows.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/cuda/top_entries.h"
#include "kernels/entry_chooser.h"

namespace kvec::kernels::cuda {

class CudaDevice;

// The choice of eviction policies on a GPU: window scores, value norms and everything behind them
// are queued for all layers; what they keep is downloaded at once. Owned by the device.
//
// Where heads choose one after the other it is on one multiprocessor, so that this has a stream of
// its own: beside it the device's stream scores the next layer. Layers share the memory that they
// are worked on in; it grows to the longest sequence's. By `kvec` it is 8 (num_heads + 2
// num_kv_heads) bytes per candidate and some; a second window takes 8 num_heads more, and a focus
// window 4 (num_kv_heads + 1) for each of its queries.
class CudaEntryChooser final : public EntryChooser {
 public:
  explicit CudaEntryChooser(CudaDevice& device) : device_(device) {}
  ~CudaEntryChooser() override;
  CudaEntryChooser(const CudaEntryChooser&) = delete;
  CudaEntryChooser& operator=(const CudaEntryChooser&) = delete;

  absl::Status Begin(const ChoicePlan& plan) override;
  absl::StatusOr<RankWeights> ScoreLayer(const WindowScoreRequest& window,
                                         const KvArena& arena) override;
  absl::Status ChooseLayer() override;
  absl::StatusOr<Choice> Finish() override;

 private:
  // What the choice from a layer reads, while the next one is scored. In the GPU's memory.
  struct ScoredLayer {
    float* means = nullptr;      // [num_windows, this rank's num_heads, n]
    float* scores = nullptr;     // [num_kv_heads, n]
    float* focus = nullptr;      // [n]; null without a focus window
    int32_t* budgets = nullptr;  // [num_kv_heads]
    cudaEvent_t scored = nullptr;
    cudaEvent_t chosen = nullptr;  // it may be scored anew
  };
  // Arrays in the GPU's memory, of one layer after the other.
  struct LayerRoom {
    float* weights = nullptr;     // [rows of all ranks, n]
    float* joined = nullptr;      // [num_joined, n]; of one rank, its weights
    float* maxima = nullptr;      // [this rank's num_kv_heads, focus_window, n]
    float* deviations = nullptr;  // [num_kv_heads]
    void* budget_workspace = nullptr;
    uint32_t* kept_words = nullptr;    // [num_kv_heads, BitmapWords]
    uint32_t* forced_words = nullptr;  // [num_kv_heads, BitmapWords]
    uint32_t* work_words = nullptr;    // of ChooseEntries
    double* raises = nullptr;          // [n]; null without a focus window
    int32_t* span_begins = nullptr;    // [n]
    int32_t* joined_by = nullptr;      // as ChoiceRows
    RowRun* own_rows = nullptr;        // ChoiceRows::own
  };
  // What the host gets, in one piece.
  struct Results {
    double* lost = nullptr;                // [layers, this rank's num_heads]
    int32_t* counts = nullptr;             // [layers, num_kv_heads]
    int32_t* num_unique = nullptr;         // [layers]
    int32_t* kept = nullptr;               // of layer after layer
    uint16_t* layers_selecting = nullptr;  // [n]
    size_t bytes = 0;
  };

  int n() const { return num_candidates_; }
  size_t num_layers() const { return layer_budgets_.size(); }
  // Results that begin at `begin`.
  Results ResultsAt(uint8_t* begin) const;
  ScoredLayer& scored_layer() { return scored_layers_[next_layer_ % scored_layers_.size()]; }
  // Of the stream and the events, once.
  absl::Status CreateStream();
  absl::Status ReserveRoom();
  // Arrays that begin at `begin`; their bytes. Null: only these.
  size_t LayOutRoom(uint8_t* begin);
  absl::Status Wait(cudaStream_t stream, cudaEvent_t event);
  template <typename T>
  absl::Status UploadArray(absl::Span<const T> array, T* to);
  absl::Status UploadPlan(const ChoicePlan& plan);
  absl::Status CheckWindow(const WindowScoreRequest& window) const;
  // This rank's means, and its maxima.
  absl::Status QueueWindow(const WindowScoreRequest& window, const KvArena& arena);
  // This rank's rows of the weights.
  absl::Status WriteOwnRows(const WindowScoreRequest& window, const KvArena& arena, float* rows);
  absl::Status WeighOwn(const WindowScoreRequest& window, const KvArena& arena, float* weights);
  // P out of all ranks' weights.
  absl::Status ScoreCandidates();
  cudaError_t Score(const SpanRules& rules);
  cudaError_t Score(const PoolRules& rules);
  cudaError_t Score(const RecencyRules& rules);
  absl::Status ShareLayerBudget();
  absl::Status ChooseFromScores();
  cudaError_t Choose(const BestRules& rules);
  cudaError_t Choose(const CoverageRules& rules);
  cudaError_t Choose(const FocusRules& rules);
  TopEntriesArguments TopEntries() const;

  CudaDevice& device_;
  cudaStream_t choice_stream_ = nullptr;
  CudaScratch room_memory_;
  CudaScratch result_memory_;
  CudaScratch window_workspace_;

  // Of the plan.
  ChoiceRules rules_;  // without span_begins
  HeadShape shape_;
  ChoiceRows rows_;
  int num_ranks_ = 1;
  int rank_ = 0;
  int first_kv_head_ = 0;  // of this rank
  int num_kv_heads_ = 0;   // G
  int num_candidates_ = 0;
  int num_windows_ = 1;
  int focus_window_ = 0;
  int num_layers_before_ = 0;
  std::vector<int> layer_budgets_;   // at most what the heads hold
  std::vector<size_t> kept_begins_;  // [layers + 1], in Results::kept
  size_t next_layer_ = 0;
  std::array<ScoredLayer, 2> scored_layers_;
  LayerRoom room_;
  Results results_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CUDA_ENTRY_CHOOSER_H_
