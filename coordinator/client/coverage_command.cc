#include "coordinator/client/coverage_command.h"

#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"
#include "coordinator/client/connection.h"
#include "coordinator/client/coverage_page.h"
#include "coordinator/client/generation.h"
#include "coordinator/client/request_options.h"
#include "coordinator/client/token_texts.h"
#include "coordinator/client/write_file.h"

namespace kvec::coordinator::client {
namespace {

constexpr char kExamples[] = R"(Examples:
  kvec coverage --budget 128 "It was a dark and stormy night …"
  kvec coverage --prompt-file report.txt --policy snapkv --budget 0.1 --output snapkv.html
)";

std::string BudgetText(const v1::CachePolicy& cache) {
  if (cache.has_budget_share()) {
    return absl::StrFormat("%g %% of the prompt", 100 * cache.budget_share());
  }
  if (cache.has_budget_tokens()) {
    return absl::StrCat(cache.budget_tokens(), " tokens per KV head");
  }
  return "the server's";
}

}  // namespace

CoverageCommand::CoverageCommand(CLI::App& program)
    : command_(program.add_subcommand("coverage", "Draws what an eviction keeps of a prompt")) {
  command_->footer(kExamples);
  AddPromptOptions(*command_, prompt_);
  command_->add_option("PROMPT", prompt_.text, "The prompt")
      ->type_name("TEXT")
      ->excludes(command_->get_option("--prompt"))
      ->excludes(command_->get_option("--prompt-file"))
      ->excludes(command_->get_option("--token-ids"));
  AddConnectionOptions(*command_, connection_);
  AddCachePolicyOptions(*command_, *request_.mutable_cache());
  command_->add_option("-o,--output", output_, "The page, one HTML file")
      ->type_name("FILE")
      ->capture_default_str();
}

absl::Status CoverageCommand::Run(Terminal& terminal, InterruptWatcher* interrupts) {
  KVEC_RETURN_IF_ERROR(ReadPrompt(prompt_, terminal, request_));
  request_.set_report_kept_tokens(true);
  request_.mutable_sampling()->set_temperature(0);
  request_.mutable_stopping()->set_max_tokens(1);
  KVEC_ASSIGN_OR_RETURN(const auto connection, Connection::Open(connection_));
  KVEC_ASSIGN_OR_RETURN(const v1::GetModelResponse model, connection->GetModel());
  grpc::ClientContext context;
  const ScopedInterruptHandler cancel(interrupts, [&context] { context.TryCancel(); });
  Generation generation;
  KVEC_RETURN_IF_ERROR(Generate(
      connection->inference(), context, request_, [](const v1::GenerateResponse&) {}, generation));
  if (generation.usage.layers_size() == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("nothing was evicted from the ", generation.usage.prompt_tokens(),
                     " prompt tokens: name a --budget below that, and a --policy other than full"));
  }
  CoverageReport report;
  report.model = model.name();
  report.policy = request_.cache().policy();
  if (report.policy.empty()) report.policy = model.default_cache_policy().policy();
  if (report.policy == "full") report.policy = "kvec";  // what a budget alone means
  report.budget = BudgetText(request_.cache());
  KVEC_ASSIGN_OR_RETURN(report.tokens, TokenTexts(*connection, generation.prompt_token_ids));
  report.usage = std::move(generation.usage);
  KVEC_RETURN_IF_ERROR(WriteFile("--output", output_, CoveragePage(report)));
  terminal.out << absl::StrFormat(
                      "%s: %d of %d prompt tokens evicted per head, %.1f %% held by some head",
                      output_, report.usage.evicted_tokens(), report.usage.prompt_tokens(),
                      100 * report.usage.coverage())
               << std::endl;
  return absl::OkStatus();
}

}  // namespace kvec::coordinator::client
