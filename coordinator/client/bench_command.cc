#include "coordinator/client/bench_command.h"

#include <algorithm>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/client/bench_report.h"
#include "coordinator/client/progress_bar.h"
#include "coordinator/client/request_options.h"

namespace kvec::coordinator::client {
namespace {

constexpr char kExamples[] =
    R"(Prefill: tokens of a prompt per second, from its first chunk to its first token.
Decode: tokens per second of all requests of a batch together, counted only while all of them
decode. Prompts are random token ids, others in every run.

Examples:
  kvec bench                                            the service at 127.0.0.1:50051
  kvec bench --model model.gguf --threads 2             a service of its own, for the measurement
  kvec bench --prompt-tokens 512,4096                   prefill only
  kvec bench --depth 0,4096 --batch 1,8                 decode only, four points
  kvec bench --depth 8000 --policy kvec --budget 512 --json
)";

// A flag of a child process that is passed on as it is, checked there.
void AddPassedOption(CLI::App& command, const std::string& flag, const char* type, const char* help,
                     CLI::Option* needed, std::vector<std::string>& flags) {
  command
      .add_option_function<std::string>(
          flag,
          [&flags, flag](const std::string& value) {
            flags.push_back(flag);
            flags.push_back(value);
          },
          help)
      ->type_name(type)
      ->needs(needed)
      ->group("Service");
}

CLI::Option* AddList(CLI::App& command, const char* flag, std::vector<uint32_t>& values,
                     const char* help) {
  return command.add_option(flag, values, help)
      ->type_name("N,N,...")
      ->delimiter(',')
      ->group("Measurement");
}

}  // namespace

BenchCommand::BenchCommand(CLI::App& program)
    : command_(program.add_subcommand("bench", "Measures prefill and decode speed")) {
  command_->footer(kExamples);
  AddServiceOptions();
  AddMeasurementOptions();
  AddCachePolicyOptions(*command_, runner_.cache);
}

void BenchCommand::AddServiceOptions() {
  CLI::Option* target = AddConnectionOptions(*command_, connection_)->group("Service");
  CLI::Option* model = command_
                           ->add_option("--model", service_.model,
                                        "Starts a coordinator and a worker with this model")
                           ->type_name("FILE|DIR")
                           ->excludes(target)
                           ->group("Service");
  std::vector<std::string>& worker = service_.worker_flags;
  AddPassedOption(*command_, "--device", "NAME", "cpu, cuda", model, worker);
  AddPassedOption(*command_, "--cuda-weights", "TYPE", "bf16, int8, fp8", model, worker);
  AddPassedOption(*command_, "--threads", "N", "Threads of the worker", model, worker);
  AddPassedOption(*command_, "--isa", "NAME", "scalar, avx2, avx512", model, worker);
  AddPassedOption(*command_, "--kv-type", "TYPE", "auto, bf16, f16, f32, int8", model, worker);
  AddPassedOption(*command_, "--kv-bytes", "N", "Size of the KV arena", model, worker);
  AddPassedOption(*command_, "--kv-pages", "N", "Size of the KV arena", model, worker);
  AddPassedOption(*command_, "--step-tokens", "N", "Tokens of a Step at most", model,
                  service_.coordinator_flags);
}

void BenchCommand::AddMeasurementOptions() {
  AddList(*command_, "--prompt-tokens", prompt_tokens_, "Prompt lengths for prefill")
      ->check(CLI::PositiveNumber);
  AddList(*command_, "--depth", depths_, "Prompt lengths under decode; 0: one token");
  AddList(*command_, "--batch", batches_, "Numbers of concurrent requests under decode (1)")
      ->check(CLI::Range(1, 1024));
  command_
      ->add_option("--decode-tokens", runner_.decode_tokens, "Tokens counted in each decode stream")
      ->type_name("N")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str()
      ->group("Measurement");
  command_->add_option("--runs", runner_.runs, "Runs of each point; the median counts")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->group("Measurement");
  command_->add_option("--warmup-runs", runner_.warmup_runs, "Runs before them, not counted")
      ->type_name("N")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str()
      ->group("Measurement");
  command_->add_option("--seed", runner_.seed, "Of the random prompts")
      ->type_name("N")
      ->capture_default_str()
      ->group("Measurement");
  command_->add_flag("--json", print_json_, "Prints one JSON object per point instead of the table")
      ->group("Measurement");
}

std::vector<BenchPoint> BenchCommand::Points() const {
  std::vector<uint32_t> prompt_tokens = prompt_tokens_;
  std::vector<uint32_t> depths = depths_;
  if (prompt_tokens.empty() && depths.empty()) {
    // --batch alone still says that decode is meant.
    if (batches_.empty()) prompt_tokens = {512};
    depths = {0, 512};
  }
  std::vector<BenchPoint> points;
  points.reserve(prompt_tokens.size());
  for (const uint32_t tokens : prompt_tokens) {
    points.push_back({BenchPhase::kPrefill, tokens, /*depth=*/0, /*batch=*/1});
  }
  for (const uint32_t depth : depths) {
    for (const uint32_t batch : batches_.empty() ? std::vector<uint32_t>{1} : batches_) {
      points.push_back({BenchPhase::kDecode, std::max(depth, 1u), depth, batch});
    }
  }
  return points;
}

absl::Status BenchCommand::Run(Terminal& terminal) {
  ConnectionOptions options = connection_;
  std::unique_ptr<LocalService> service;
  if (!service_.model.empty()) {
    KVEC_ASSIGN_OR_RETURN(service, LocalService::Start(service_));
    options = ConnectionOptions();
    options.target = service->target();
  }
  KVEC_ASSIGN_OR_RETURN(const auto connection, Connection::Open(options));
  return Measure(*connection, terminal);
}

absl::Status BenchCommand::Measure(const Connection& connection, Terminal& terminal) {
  KVEC_ASSIGN_OR_RETURN(const v1::GetModelResponse model, connection.GetModel());
  BenchRunner runner(connection, model, runner_);
  // The report names the policy that was in force, also where the coordinator chose it.
  v1::CachePolicy cache = runner_.cache;
  if (cache.policy().empty()) cache.MergeFrom(model.default_cache_policy());
  std::vector<BenchResult> results;
  {
    const std::vector<BenchPoint> points = Points();
    const int runs_per_point = runner_.warmup_runs + runner_.runs;
    ProgressBar progress(terminal, static_cast<int>(points.size()) * runs_per_point);
    for (const BenchPoint& point : points) {
      progress.SetLabel(Describe(point));
      auto result = runner.Measure(point, [&progress] { progress.Advance(); });
      if (!result.ok()) {
        return absl::Status(result.status().code(),
                            absl::StrCat(Describe(point), ": ", result.status().message()));
      }
      if (print_json_) terminal.out << BenchJson(*result, cache) << std::endl;
      results.push_back(*std::move(result));
    }
  }
  if (!print_json_) terminal.out << BenchTable(results, cache) << std::flush;
  return absl::OkStatus();
}

}  // namespace kvec::coordinator::client
