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
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/entry_chooser.h"

namespace kvec::kernels::cuda {

class CudaDevice;

// The choice of `kvec` on a GPU: window scores, value norms and everything behind them are queued
// for all layers; what they keep is downloaded at once. Owned by the device.
//
// Heads choose one after the other, on one multiprocessor, so that this has a stream of its own:
// beside it the device's stream scores the next layer. Layers share the memory that they are worked
// on in, 8 (num_heads + 2 num_kv_heads) bytes per candidate and some; it grows to the longest
// sequence's.
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
    float* means = nullptr;      // [this rank's num_heads, n]
    float* scores = nullptr;     // [num_kv_heads, n]
    int32_t* budgets = nullptr;  // [num_kv_heads]
    cudaEvent_t scored = nullptr;
    cudaEvent_t chosen = nullptr;  // it may be scored anew
  };
  // Arrays in the GPU's memory, of one layer after the other.
  struct LayerRoom {
    float* weights = nullptr;  // [rows of all ranks, n]
    float* joined = nullptr;   // [num_kv_heads, n]; of one rank, its weights
    void* budget_workspace = nullptr;
    uint32_t* kept_words = nullptr;   // [num_kv_heads, BitmapWords]
    uint32_t* taken_words = nullptr;  // [BitmapWords]
    int32_t* span_begins = nullptr;   // [n]
    int32_t* kv_heads = nullptr;      // [rows of all ranks]: whose each is
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
  int num_rows() const { return static_cast<int>(kv_heads_.size()); }
  // All ranks have as many.
  int rows_per_rank() const { return num_rows() / num_ranks_; }
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
  absl::Status CheckWindow(const WindowScoreRequest& window) const;
  // Of this rank's rows of the weights.
  absl::Status WeighOwn(const WindowScoreRequest& window, const KvArena& arena, float* weights);
  // P out of all ranks' weights.
  absl::Status ScoreCandidates();
  absl::Status ShareLayerBudget();
  absl::Status ChooseFromScores();

  CudaDevice& device_;
  cudaStream_t choice_stream_ = nullptr;
  CudaScratch room_memory_;
  CudaScratch result_memory_;
  CudaScratch window_workspace_;

  // Of the plan.
  ChoiceRules rules_;  // without span_begins
  HeadShape shape_;
  int num_ranks_ = 1;
  int rank_ = 0;
  int first_kv_head_ = 0;          // of this rank
  int num_kv_heads_ = 0;           // G
  std::vector<int32_t> kv_heads_;  // [num_rows()]: whose row each is; -1: nobody's
  int num_candidates_ = 0;
  std::vector<int> layer_budgets_;   // at most what the heads hold
  std::vector<size_t> kept_begins_;  // [layers + 1], in Results::kept
  size_t next_layer_ = 0;
  std::array<ScoredLayer, 2> scored_layers_;
  LayerRoom room_;
  Results results_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CUDA_ENTRY_CHOOSER_H_
