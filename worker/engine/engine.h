#ifndef KVEC_WORKER_ENGINE_ENGINE_H_
#define KVEC_WORKER_ENGINE_ENGINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model/model_files.h"
#include "kernels/device.h"
#include "kvec/v1/cluster.pb.h"
#include "worker/cache/kept_blocks.h"
#include "worker/cache/page_pool.h"
#include "worker/cache/sequence_cache.h"
#include "worker/comm/group_comm.h"
#include "worker/engine/evictor.h"
#include "worker/engine/progress.h"
#include "worker/engine/sampled_tokens.h"
#include "worker/engine/second_reader.h"
#include "worker/engine/step_plan.h"
#include "worker/model/model_weights.h"
#include "worker/model/transformer.h"

namespace kvec::worker::engine {

// Executes Steps: a worker without its connection. Holds its share of the weights, the arena, and
// all sequences' caches; has no policy of its own. One thread calls it.
//
// Where the rest of the model is on other workers, all execute the same Steps in the same order,
// and what they send each other is fixed by the Steps alone. A Step's part on one worker needs what
// was sent by the stage before in the same Step, by its own stage, and what earlier Steps sampled:
// never a later Step or stage. So no order of events makes them wait for each other in a circle,
// whether or not a message is sent before it is received; but for sampled tokens (see
// SampledTokens).
class Engine {
 public:
  struct Options {
    model::LayerRange layers;
    int rank = 0;  // of num_ranks workers that share these layers
    int num_ranks = 1;
    int max_step_tokens = 512;
    int64_t kv_bytes = 0;  // of the arena
    kernels::KvType kv_type = kernels::KvType::kBF16;
  };

  // `files`, `device` and `progress` must outlive the result. Reads the weights and allocates
  // everything that Steps will need.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const ModelFiles& files,
                                                        kernels::Device& device,
                                                        const Options& options,
                                                        Progress& progress);

  // Carries the Step out, in the order that cluster.proto gives. Results are with the worker that
  // samples: rank 0 of the last stage. An error means that coordinator and worker disagree, or that
  // the device or a communicator failed: the group is to be formed anew.
  absl::StatusOr<v1::StepResult> Execute(const v1::Step& step);

  // Lends the engine its place in a group, before any of the group's Steps; null when the group is
  // no more. Forgets all sequences, as Reset.
  void SetComm(comm::GroupComm* comm);

  // Which tokens close a sentence, one bit per vocabulary entry; see cluster.proto.
  void set_sentence_end_bits(std::string bits) {
    evictor_->set_sentence_end_bits(std::move(bits));
  }

  // Forgets all sequences and kept blocks and frees their pages.
  void Reset();

  // What a worker says of itself when its group is ready.
  v1::GroupReady Capacity() const;

  int num_sequences() const { return static_cast<int>(sequences_.size()); }
  int32_t num_free_pages() const { return pool_->num_free(); }

 private:
  Engine(kernels::Device& device, const Options& options, Progress& progress)
      : device_(device), options_(options), progress_(progress), tokens_(sequences_) {}

  absl::Status Load(const ModelFiles& files);
  absl::Status AllocateArena(const ModelConfig& config);

  // FAILED_PRECONDITION when the group that was lent has not the rest of the model.
  absl::Status CheckComm() const;
  // Frees sequences and kept blocks.
  absl::Status Free(const v1::Step& step);
  // What a sequence begins with: kept blocks, the cache of the one that it continues, or nothing.
  absl::StatusOr<std::unique_ptr<cache::SequenceCache>> MakeCache(const v1::SequenceStart& start);
  absl::Status Start(const v1::SequenceStart& start);
  absl::Status Fork(const v1::SequenceFork& fork);
  // Carries out the orders of sequences that are at their positions before the Step's rows.
  absl::Status EvictDue(const v1::Step& step, std::vector<v1::EvictionReport>& reports);
  // Carries out the others.
  absl::Status EvictRest(const v1::Step& step, std::vector<v1::EvictionReport>& reports);
  absl::Status ReadAgain(const v1::Step& step);
  // Of the prompts that the Step's rows have brought to their ends.
  absl::Status ReportCurves(const v1::Step& step, v1::StepResult& result);
  absl::Status Keep(const v1::BlockKeep& keep);
  absl::StatusOr<Sequence*> Find(uint64_t id);
  // Receives the tokens that the Step's work feeds and others have sampled.
  absl::Status AwaitTokens(const v1::Step& step);
  absl::StatusOr<v1::StepResult> RunWork(const v1::Step& step);
  // Frees what slid out of windows, and tells the pages of every sequence that the Step changed.
  void ReportPages(const v1::Step& step, v1::StepResult& result);
  // Draws and scores from logits[count, vocab] of batch.logit_rows[first_row …] into plan.samples.
  absl::Status Sample(kernels::Tensor logits, int first_row, StepPlan& plan);
  // Fills plan.result when plan.samples are there.
  static void TakeSamples(StepPlan& plan);

  kernels::Device& device_;
  const Options options_;
  Progress& progress_;
  kernels::HeadShape heads_;
  cache::CacheShape cache_shape_;
  std::unique_ptr<model::ModelWeights> weights_;
  std::unique_ptr<kernels::KvArena> arena_;
  std::unique_ptr<cache::PagePool> pool_;
  std::unique_ptr<model::Transformer> transformer_;
  std::unique_ptr<Evictor> evictor_;
  std::unique_ptr<SecondReader> second_reader_;
  std::unique_ptr<cache::KeptBlocks> blocks_;
  SequenceMap sequences_;
  SampledTokens tokens_;
  comm::GroupComm* comm_ = nullptr;
};

}  // namespace kvec::worker::engine

#endif  // KVEC_WORKER_ENGINE_ENGINE_H_
