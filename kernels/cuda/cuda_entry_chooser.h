#ifndef KVEC_KERNELS_CUDA_CUDA_ENTRY_CHOOSER_H_
#define KVEC_KERNELS_CUDA_CUDA_ENTRY_CHOOSER_H_

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
// on the device's stream, for all layers; what they keep is downloaded at once. Owned by the
// device. Layers share the memory that they are worked on in, 4 (num_heads + 2 num_kv_heads) bytes
// per candidate and some; it grows to the longest sequence's.
class CudaEntryChooser final : public EntryChooser {
 public:
  explicit CudaEntryChooser(CudaDevice& device) : device_(device) {}

  absl::Status Begin(const ChoicePlan& plan) override;
  absl::StatusOr<RankWeights> ScoreLayer(const WindowScoreRequest& window,
                                         const KvArena& arena) override;
  absl::Status ChooseLayer() override;
  absl::StatusOr<Choice> Finish() override;

 private:
  // Arrays in the GPU's memory, of one layer after the other.
  struct LayerRoom {
    float* means = nullptr;    // [this rank's num_heads, n]
    float* weights = nullptr;  // [rows of all ranks, n]
    float* joined = nullptr;   // [num_kv_heads, n]; null: the weights are, of one rank
    float* scores = nullptr;   // [num_kv_heads, n]
    void* budget_workspace = nullptr;
    int32_t* budgets = nullptr;       // [num_kv_heads]
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
  absl::Status ReserveRoom();
  template <typename T>
  absl::Status UploadArray(absl::Span<const T> array, T* to);
  absl::Status CheckWindow(const WindowScoreRequest& window) const;
  // Of this rank's rows of the weights.
  absl::Status WeighOwn(const WindowScoreRequest& window, const KvArena& arena, float* weights);
  // P out of all ranks' weights.
  absl::Status ScoreCandidates();
  // From the scores of layer number `layer` of the plan.
  absl::Status ChooseFromScores(size_t layer);

  CudaDevice& device_;
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
  LayerRoom room_;
  Results results_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_KERNELS_CUDA_CUDA_ENTRY_CHOOSER_H_
