#include "tests/worker/engine/group_harness.h"

#include <utility>

#include "gtest/gtest.h"

namespace kvec::worker::engine {

GroupHarness::GroupHarness(const ModelFiles& files, const Options& options)
    : files_(files), options_(options) {
  const int num_layers = files.config().num_layers;
  for (int i = 0; i < options.shape.size(); ++i) {
    const int stage = i / options.shape.num_ranks;
    const int first = num_layers * stage / options.shape.num_stages;
    const int end = num_layers * (stage + 1) / options.shape.num_stages;
    Worker& worker = *workers_.emplace_back(std::make_unique<Worker>());
    auto device = kernels::cpu::CpuDevice::Create({.num_threads = 1});
    EXPECT_TRUE(device.ok()) << device.status();
    worker.device = *std::move(device);
    auto engine = Engine::Create(files, *worker.device,
                                 {.layers = {first, end - first},
                                  .rank = i % options.shape.num_ranks,
                                  .num_ranks = options.shape.num_ranks,
                                  .kv_bytes = options.kv_bytes,
                                  .kv_type = options.kv_type},
                                 worker.progress);
    EXPECT_TRUE(engine.ok()) << engine.status();
    worker.engine = *std::move(engine);
  }
  FormAgain();
  for (auto& worker : workers_) worker->thread = std::thread([&] { Work(*worker); });
}

GroupHarness::~GroupHarness() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  Abort();
  for (auto& worker : workers_) worker->thread.join();
}

std::vector<Engine*> GroupHarness::engines() {
  std::vector<Engine*> engines;
  for (auto& worker : workers_) engines.push_back(worker->engine.get());
  return engines;
}

void GroupHarness::SetSentenceEndBits(const std::string& bits) {
  for (Engine* engine : engines()) engine->set_sentence_end_bits(bits);
}

void GroupHarness::FormAgain() {
  auto comms =
      comm::MakeThreadGroup(options_.shape.num_stages, options_.shape.num_ranks, options_.comm);
  for (size_t i = 0; i < workers_.size(); ++i) {
    workers_[i]->engine->SetComm(comms[i].get());
    workers_[i]->comm = std::move(comms[i]);
  }
}

void GroupHarness::Abort() {
  for (auto& worker : workers_) worker->comm->Abort();
}

void GroupHarness::Work(Worker& worker) {
  while (true) {
    v1::Step step;
    {
      absl::MutexLock lock(&mutex_);
      const auto has_work = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return stopping_ || !worker.steps.empty();
      };
      mutex_.Await(absl::Condition(&has_work));
      if (stopping_) return;
      step = std::move(worker.steps.front());
      worker.steps.pop_front();
    }
    auto result = worker.engine->Execute(step);
    absl::MutexLock lock(&mutex_);
    worker.results.push_back(std::move(result));
  }
}

void GroupHarness::SubmitTo(int worker, const v1::Step& step) {
  absl::MutexLock lock(&mutex_);
  workers_[worker]->steps.push_back(step);
}

void GroupHarness::Submit(const v1::Step& step) {
  for (int i = 0; i < options_.shape.size(); ++i) SubmitTo(i, step);
}

absl::StatusOr<v1::StepResult> GroupHarness::TakeFrom(int worker) {
  absl::MutexLock lock(&mutex_);
  const auto has_result = [&] { return !workers_[worker]->results.empty(); };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&has_result), options_.comm.deadline)) {
    return absl::DeadlineExceededError("the Step does not end");
  }
  absl::StatusOr<v1::StepResult> result = std::move(workers_[worker]->results.front());
  workers_[worker]->results.pop_front();
  return result;
}

v1::StepResult GroupHarness::Take() {
  v1::StepResult joined;
  std::vector<v1::StepResult> results;
  for (int i = 0; i < options_.shape.size(); ++i) {
    auto result = TakeFrom(i);
    EXPECT_TRUE(result.ok()) << "worker " << i << ": " << result.status();
    if (!result.ok()) return joined;
    results.push_back(*std::move(result));
  }
  const int sampler = (options_.shape.num_stages - 1) * options_.shape.num_ranks;
  for (int i = 0; i < options_.shape.size(); ++i) {
    if (i != sampler) {
      EXPECT_EQ(results[i].results_size(), 0);
    }
  }
  joined = results[sampler];
  joined.clear_evictions();
  for (int i = 0; i < results[0].evictions_size(); ++i) {
    std::vector<v1::EvictionReport> reports;
    for (const v1::StepResult& result : results) reports.push_back(result.evictions(i));
    *joined.add_evictions() = JoinReports(reports, options_.shape.num_ranks);
  }
  joined.clear_curves();
  for (int i = 0; i < options_.shape.size(); ++i) {
    const bool reports = i % options_.shape.num_ranks == 0;
    EXPECT_EQ(results[i].curves_size(), reports ? results[0].curves_size() : 0);
    for (int curve = 0; curve < results[i].curves_size(); ++curve) {
      if (i == 0) {
        *joined.add_curves() = results[0].curves(curve);
      } else {
        joined.mutable_curves(curve)->mutable_layers()->MergeFrom(
            results[i].curves(curve).layers());
      }
    }
  }
  return joined;
}

v1::EvictionReport JoinReports(const std::vector<v1::EvictionReport>& reports, int num_ranks) {
  v1::EvictionReport joined;
  joined.set_sequence_id(reports[0].sequence_id());
  joined.set_position(reports[0].position());
  std::string kept(reports[0].kept_token_bits().size(), '\0');
  for (size_t i = 0; i < reports.size(); ++i) {
    const v1::EvictionReport& report = reports[i];
    EXPECT_EQ(report.sequence_id(), joined.sequence_id());
    for (size_t byte = 0; byte < kept.size(); ++byte) {
      kept[byte] = static_cast<char>(kept[byte] | report.kept_token_bits()[byte]);
    }
    joined.set_kept_entries(joined.kept_entries() + report.kept_entries());
    const int first_layer = joined.layers_size() - (i % num_ranks == 0 ? 0 : report.layers_size());
    for (int layer = 0; layer < report.layers_size(); ++layer) {
      const v1::LayerCacheUsage& part = report.layers(layer);
      if (i % num_ranks == 0) {
        *joined.add_layers() = part;
        continue;
      }
      v1::LayerCacheUsage& usage = *joined.mutable_layers(first_layer + layer);
      EXPECT_EQ(usage.layer(), part.layer());
      EXPECT_EQ(usage.unique_tokens(), part.unique_tokens());
      usage.set_kept_entries(usage.kept_entries() + part.kept_entries());
      usage.set_attention_mass(usage.attention_mass() + part.attention_mass());
      usage.mutable_kept_token_bits()->MergeFrom(part.kept_token_bits());
    }
  }
  joined.set_kept_token_bits(kept);
  return joined;
}

}  // namespace kvec::worker::engine
