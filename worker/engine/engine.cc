#include "worker/engine/engine.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "worker/model/rank_heads.h"
#include "worker/trace/span_recorder.h"

namespace kvec::worker::engine {
namespace {

void FillLogProbs(const kernels::SampleResult& sample, v1::TokenLogProbs& logprobs) {
  logprobs.mutable_chosen()->set_token_id(sample.token);
  logprobs.mutable_chosen()->set_log_prob(sample.log_prob);
  for (const auto& [token, log_prob] : sample.top) {
    v1::TokenLogProb& top = *logprobs.add_top();
    top.set_token_id(token);
    top.set_log_prob(log_prob);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const ModelFiles& files,
                                                       kernels::Device& device,
                                                       const Options& options, Progress& progress) {
  auto engine = std::unique_ptr<Engine>(new Engine(device, options, progress));
  KVEC_RETURN_IF_ERROR(engine->Load(files));
  return engine;
}

absl::Status Engine::Load(const ModelFiles& files) {
  const ModelConfig& config = files.config();
  KVEC_ASSIGN_OR_RETURN(const ColumnBlocks blocks, ColumnBlocksOf(files));
  KVEC_ASSIGN_OR_RETURN(const RankShare share,
                        ShareOfRank(config, blocks, options_.rank, options_.num_ranks));
  heads_ = model::HeadsOf(share, config);
  KVEC_ASSIGN_OR_RETURN(weights_,
                        model::ModelWeights::Load(files, {options_.layers, share}, device_));
  const auto windows = config.sliding_windows.begin();
  cache_shape_ = {heads_.num_kv_heads,
                  {windows + options_.layers.first, windows + options_.layers.end()}};
  KVEC_RETURN_IF_ERROR(AllocateArena(config));
  KVEC_ASSIGN_OR_RETURN(transformer_,
                        model::Transformer::Create(config, *weights_, heads_, device_, *arena_,
                                                   {.max_rows = options_.max_step_tokens,
                                                    .layers_done = &progress_.layers_done}));
  Evictor::Options evictor{.layers = options_.layers,
                           .ranks = {},
                           .rank = options_.rank,
                           .reported_kv_heads = share.reported_kv_heads,
                           .attention_scale = config.attention_scale,
                           .sentence_end_bits = ""};
  for (int rank = 0; rank < options_.num_ranks; ++rank) {
    KVEC_ASSIGN_OR_RETURN(const RankShare of_rank,
                          ShareOfRank(config, blocks, rank, options_.num_ranks));
    evictor.ranks.push_back(
        {of_rank.heads.begin, of_rank.heads.count, of_rank.kv_heads.begin, of_rank.kv_heads.count});
  }
  evictor_ = std::make_unique<Evictor>(device_, *arena_, heads_, cache_shape_, std::move(evictor));
  second_reader_ = std::make_unique<SecondReader>(device_, *arena_, heads_, cache_shape_,
                                                  *transformer_, config.attention_scale);
  return absl::OkStatus();
}

absl::Status Engine::AllocateArena(const ModelConfig& config) {
  kernels::KvArenaSpec spec{config.head_dim, options_.kv_type, 0};
  spec.num_pages = std::min<int64_t>(options_.kv_bytes / static_cast<int64_t>(spec.page_bytes()),
                                     std::numeric_limits<int32_t>::max());
  const int64_t pages_per_token = int64_t{heads_.num_kv_heads} * options_.layers.count;
  if (spec.num_pages < pages_per_token) {
    return absl::InvalidArgumentError(
        absl::StrCat("kv_bytes: ", options_.kv_bytes, " are ", spec.num_pages,
                     " pages; one sequence needs at least ", pages_per_token));
  }
  KVEC_ASSIGN_OR_RETURN(arena_, device_.AllocateKvArena(spec));
  pool_ = std::make_unique<cache::PagePool>(static_cast<int32_t>(spec.num_pages));
  blocks_ = std::make_unique<cache::KeptBlocks>(*pool_);
  return absl::OkStatus();
}

void Engine::SetComm(comm::GroupComm* comm) {
  Reset();
  comm_ = comm;
  transformer_->SetComm(comm);
  evictor_->SetComm(comm);
  tokens_.SetComm(comm);
}

absl::Status Engine::CheckComm() const {
  const bool is_first = options_.layers.first == 0;
  const bool is_last = weights_->has_head();
  const int stage = comm_ == nullptr ? 0 : comm_->stage;
  const int num_stages = comm_ == nullptr ? 1 : comm_->num_stages;
  const int rank = comm_ == nullptr ? 0 : comm_->rank;
  const int num_ranks = comm_ == nullptr ? 1 : comm_->num_ranks;
  if (is_first == (stage == 0) && is_last == (stage + 1 == num_stages) && rank == options_.rank &&
      num_ranks == options_.num_ranks) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "group: this is stage ", stage, " of ", num_stages, ", rank ", rank, " of ", num_ranks,
      "; the engine holds layers ", options_.layers.first, " … ", options_.layers.end() - 1,
      " as rank ", options_.rank, " of ", options_.num_ranks));
}

void Engine::Reset() {
  sequences_.clear();
  blocks_->Clear();
}

v1::GroupReady Engine::Capacity() const {
  v1::GroupReady ready;
  ready.set_total_pages(pool_->num_pages());
  ready.set_page_bytes(arena_->spec().page_bytes());
  ready.set_weight_bytes(weights_->bytes());
  ready.set_num_kv_heads(heads_.num_kv_heads);
  ready.set_num_repeated_kv_heads(heads_.num_kv_heads -
                                  weights_->share().rank.reported_kv_heads.count);
  ready.set_max_step_tokens(options_.max_step_tokens);
  return ready;
}

absl::Status Engine::Free(const v1::Step& step) {
  for (uint64_t id : step.freed_sequence_ids()) {
    if (sequences_.erase(id) == 0) {
      return absl::InternalError(absl::StrCat("sequence ", id, ": not known, cannot free"));
    }
  }
  for (uint64_t id : step.freed_block_ids()) KVEC_RETURN_IF_ERROR(blocks_->Free(id));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<cache::SequenceCache>> Engine::MakeCache(
    const v1::SequenceStart& start) {
  if (start.continues()) {
    KVEC_ASSIGN_OR_RETURN(Sequence* const earlier, Find(start.sequence_id()));
    auto cache = earlier->TakeCache();
    sequences_.erase(start.sequence_id());
    return cache;
  }
  auto cache = std::make_unique<cache::SequenceCache>(cache_shape_, *pool_);
  KVEC_RETURN_IF_ERROR(blocks_->Share(start.block_ids(), *cache));
  return cache;
}

absl::Status Engine::Start(const v1::SequenceStart& start) {
  KVEC_ASSIGN_OR_RETURN(auto cache, MakeCache(start));
  if (cache->num_tokens() != start.cached_token_ids_size()) {
    return absl::InternalError(
        absl::StrCat("sequence ", start.sequence_id(), ": ", start.cached_token_ids_size(),
                     " cached_token_ids, the cache holds ", cache->num_tokens()));
  }
  auto sequence = std::make_unique<Sequence>(start, std::move(cache));
  KVEC_RETURN_IF_ERROR(evictor_->Prepare(*sequence));
  for (int i = 0; i < start.cached_token_ids_size(); ++i) {
    sequence->Count(static_cast<int32_t>(start.cached_token_ids(i)), static_cast<uint32_t>(i));
  }
  if (sequences_.try_emplace(start.sequence_id(), std::move(sequence)).second) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("sequence ", start.sequence_id(), ": started twice"));
}

absl::Status Engine::Fork(const v1::SequenceFork& fork) {
  KVEC_ASSIGN_OR_RETURN(Sequence* const parent, Find(fork.parent_sequence_id()));
  KVEC_RETURN_IF_ERROR(tokens_.Await(*parent));
  std::vector<kernels::PageCopy> copies;
  KVEC_ASSIGN_OR_RETURN(auto cache, parent->cache().Fork(copies));
  KVEC_RETURN_IF_ERROR(device_.CopyPages(*arena_, copies));
  auto child = parent->Fork(fork.child(), std::move(cache));
  if (sequences_.try_emplace(fork.child().sequence_id(), std::move(child)).second) {
    return absl::OkStatus();
  }
  return absl::InternalError(
      absl::StrCat("sequence ", fork.child().sequence_id(), ": started twice"));
}

absl::Status Engine::Keep(const v1::BlockKeep& keep) {
  KVEC_ASSIGN_OR_RETURN(Sequence* const sequence, Find(keep.sequence_id()));
  int index = static_cast<int>(keep.first_block());
  for (uint64_t id : keep.block_ids()) {
    KVEC_RETURN_IF_ERROR(blocks_->Keep(id, sequence->cache(), index++));
  }
  return absl::OkStatus();
}

absl::StatusOr<Sequence*> Engine::Find(uint64_t id) {
  const auto found = sequences_.find(id);
  if (found != sequences_.end()) return found->second.get();
  return absl::InternalError(absl::StrCat("sequence ", id, ": not known"));
}

absl::Status Engine::EvictDue(const v1::Step& step, std::vector<v1::EvictionReport>& reports) {
  for (const v1::EvictionOrder& order : step.evictions()) {
    KVEC_ASSIGN_OR_RETURN(Sequence* const sequence, Find(order.sequence_id()));
    const bool is_read_first = std::any_of(
        step.readings().begin(), step.readings().end(),
        [&](const auto& reading) { return reading.sequence_id() == order.sequence_id(); });
    if (sequence->next_position() < order.position() || is_read_first) continue;
    KVEC_ASSIGN_OR_RETURN(reports.emplace_back(), evictor_->Evict(order, *sequence));
  }
  return absl::OkStatus();
}

absl::Status Engine::EvictRest(const v1::Step& step, std::vector<v1::EvictionReport>& reports) {
  for (const v1::EvictionOrder& order : step.evictions()) {
    const bool is_done = std::any_of(reports.begin(), reports.end(), [&](const auto& report) {
      return report.sequence_id() == order.sequence_id();
    });
    if (is_done) continue;
    KVEC_ASSIGN_OR_RETURN(Sequence* const sequence, Find(order.sequence_id()));
    KVEC_ASSIGN_OR_RETURN(reports.emplace_back(), evictor_->Evict(order, *sequence));
  }
  return absl::OkStatus();
}

absl::Status Engine::ReadAgain(const v1::Step& step) {
  for (const v1::SequenceReading& reading : step.readings()) {
    const trace::ScopedSpan span("second reading");
    KVEC_ASSIGN_OR_RETURN(Sequence* const sequence, Find(reading.sequence_id()));
    KVEC_RETURN_IF_ERROR(second_reader_->Read(reading, *sequence));
  }
  return absl::OkStatus();
}

absl::Status Engine::ReportCurves(const v1::Step& step, v1::StepResult& result) {
  for (const v1::SequenceWork& work : step.work()) {
    if (work.curve_budgets().empty()) continue;
    const trace::ScopedSpan span("curves");
    KVEC_ASSIGN_OR_RETURN(Sequence* const sequence, Find(work.sequence_id()));
    KVEC_ASSIGN_OR_RETURN(v1::CurveReport curves,
                          evictor_->Curves(work.curve_budgets(), *sequence));
    if (options_.rank == 0) *result.add_curves() = std::move(curves);  // the others' are the same
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::StepResult> Engine::Execute(const v1::Step& step) {
  const absl::Time begin = absl::Now();
  progress_.steps_begun.fetch_add(1);
  progress_.in_step = true;
  const absl::Cleanup end_step = [this] { progress_.in_step = false; };
  KVEC_RETURN_IF_ERROR(CheckComm());
  KVEC_RETURN_IF_ERROR(Free(step));
  for (const v1::SequenceStart& start : step.starts()) KVEC_RETURN_IF_ERROR(Start(start));
  std::vector<v1::EvictionReport> evictions;
  KVEC_RETURN_IF_ERROR(EvictDue(step, evictions));
  for (const v1::SequenceFork& fork : step.forks()) KVEC_RETURN_IF_ERROR(Fork(fork));
  KVEC_ASSIGN_OR_RETURN(v1::StepResult result, RunWork(step));
  for (const v1::BlockKeep& keep : step.keeps()) KVEC_RETURN_IF_ERROR(Keep(keep));
  KVEC_RETURN_IF_ERROR(ReadAgain(step));
  KVEC_RETURN_IF_ERROR(EvictRest(step, evictions));
  KVEC_RETURN_IF_ERROR(ReportCurves(step, result));
  // Nothing that was made from what a broken group sent leaves the worker.
  if (comm_ != nullptr) KVEC_RETURN_IF_ERROR(comm_->Completed());
  ReportPages(step, result);
  result.mutable_evictions()->Assign(evictions.begin(), evictions.end());
  progress_.last_step_id = step.step_id();
  result.set_step_id(step.step_id());
  result.set_group_epoch(step.group_epoch());
  result.set_free_pages(pool_->num_free());
  result.set_execute_ms(absl::ToDoubleMilliseconds(absl::Now() - begin));
  return result;
}

absl::Status Engine::AwaitTokens(const v1::Step& step) {
  for (const v1::SequenceWork& work : step.work()) {
    if (work.token_ids_size() > 0) continue;
    KVEC_ASSIGN_OR_RETURN(Sequence* const sequence, Find(work.sequence_id()));
    KVEC_RETURN_IF_ERROR(tokens_.Await(*sequence));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::StepResult> Engine::RunWork(const v1::Step& step) {
  KVEC_RETURN_IF_ERROR(AwaitTokens(step));
  KVEC_ASSIGN_OR_RETURN(StepPlan plan, PlanStep(step, sequences_));
  absl::Status status = transformer_->Forward(
      plan.batch,
      [&](kernels::Tensor logits, int first_row) { return Sample(logits, first_row, plan); });
  status.Update(device_.Synchronize());  // whatever happened: samples may be under way to the plan
  KVEC_RETURN_IF_ERROR(status);
  if (tokens_.IsHere()) TakeSamples(plan);
  KVEC_RETURN_IF_ERROR(tokens_.Share(plan));
  if (!tokens_.IsHere()) plan.result.clear_results();
  return std::move(plan.result);
}

void Engine::ReportPages(const v1::Step& step, v1::StepResult& result) {
  const auto report = [&](uint64_t id) {
    cache::SequenceCache& cache = sequences_.at(id)->cache();
    cache.ReleaseSlidOut();
    v1::SequencePages& pages = *result.add_changed_pages();
    pages.set_sequence_id(id);
    pages.set_pages(cache.num_pages());
    pages.set_peak_pages(cache.peak_pages());
  };
  absl::flat_hash_set<uint64_t> reported;
  for (const v1::SequenceWork& work : step.work()) {
    if (reported.insert(work.sequence_id()).second) report(work.sequence_id());
  }
  for (const v1::EvictionOrder& order : step.evictions()) {
    if (reported.insert(order.sequence_id()).second) report(order.sequence_id());
  }
}

absl::Status Engine::Sample(kernels::Tensor logits, int first_row, StepPlan& plan) {
  const auto row_before = [](const StepPlan::Output& output, int row) {
    return output.request.row < row;
  };
  const auto begin =
      std::lower_bound(plan.outputs.begin(), plan.outputs.end(), first_row, row_before);
  const auto end = std::lower_bound(begin, plan.outputs.end(), first_row + logits.rows, row_before);
  std::vector<kernels::SampleRequest> requests;
  for (auto output = begin; output != end; ++output) {
    requests.push_back(output->request);
    requests.back().row -= first_row;
  }
  const trace::ScopedSpan span("sample");
  KVEC_RETURN_IF_ERROR(device_.Sample(
      logits, requests,
      absl::MakeSpan(plan.samples).subspan(begin - plan.outputs.begin(), requests.size())));
  // What a device still has to do belongs here.
  return span.is_recorded() ? device_.Synchronize() : absl::OkStatus();
}

void Engine::TakeSamples(StepPlan& plan) {
  for (size_t i = 0; i < plan.outputs.size(); ++i) {
    const StepPlan::Output& output = plan.outputs[i];
    const kernels::SampleResult& sample = plan.samples[i];
    v1::SequenceResult& result = *plan.result.mutable_results(output.result);
    if (!output.is_draw()) {
      FillLogProbs(sample, *result.add_scored());
      continue;
    }
    plan.sequences[output.work]->SetSampled(result.choice(), sample.token);
    result.set_token_id(sample.token);
    if (output.request.num_logprobs >= 0) FillLogProbs(sample, *result.mutable_logprobs());
  }
}

}  // namespace kvec::worker::engine
