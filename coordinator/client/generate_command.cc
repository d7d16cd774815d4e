#include "coordinator/client/generate_command.h"

#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "coordinator/client/connection.h"
#include "coordinator/client/generation.h"
#include "coordinator/client/generation_json.h"
#include "coordinator/client/request_options.h"

namespace kvec::coordinator::client {
namespace {

constexpr char kExamples[] = R"(Examples:
  kvec generate --prompt "The capital of France is" --max-tokens 32 --temperature 0
  kvec generate --chat --prompt "Why is the sky blue?"       as a question to a chat model
  kvec generate --prompt-file book.txt --policy kvec --budget 512
  git diff | kvec generate --max-tokens 200                  the prompt from standard input
  kvec generate --token-ids 1,504,3575 --logprobs 5 --json   one JSON object, for programs
)";

void AddOutputOptions(CLI::App& command, v1::GenerateRequest& request, bool& print_json) {
  auto* json = command.add_flag("--json", print_json, "Prints one JSON object instead of the text")
                   ->group("Output");
  command
      .add_option_function<uint32_t>(
          "--logprobs", [&request](const uint32_t& value) { request.set_logprobs(value); },
          "Log-probabilities of the answer's tokens and of the K best at each")
      ->type_name("K")
      ->needs(json)
      ->group("Output");
  command
      .add_option_function<uint32_t>(
          "--prompt-logprobs",
          [&request](const uint32_t& value) { request.set_prompt_logprobs(value); },
          "The same for the prompt's tokens")
      ->type_name("K")
      ->needs(json)
      ->group("Output");
  command
      .add_option_function<std::vector<uint32_t>>(
          "--forced-token-ids",
          [&request](const std::vector<uint32_t>& ids) {
            request.mutable_forced_token_ids()->Add(ids.begin(), ids.end());
          },
          "Feeds these instead of sampled tokens, to get their log-probabilities")
      ->type_name("ID,ID,...")
      ->delimiter(',')
      ->group("Output");
}

void AddRequestOptions(CLI::App& command, v1::GenerateRequest& request) {
  command
      .add_option_function<uint32_t>(
          "-n,--n", [&request](const uint32_t& value) { request.mutable_sampling()->set_n(value); },
          "Independent answers to one prompt")
      ->type_name("N")
      ->group("Request");
  command
      .add_option(
          "--session,--session-id", *request.mutable_session_id(),
          "Leaves the cache to the next request of this id, whose prompt is only what comes "
          "after the text so far")
      ->type_name("ID")
      ->group("Request");
  command
      .add_flag_callback(
          "--continue-session", [&request] { request.set_continue_session(true); },
          "Fails when there is no such session, instead of beginning it")
      ->group("Request");
  command.add_option("--request-id", *request.mutable_request_id(), "Names the request in logs")
      ->type_name("ID")
      ->group("Request");
  command
      .add_option_function<int32_t>(
          "--priority", [&request](const int32_t& value) { request.set_priority(value); },
          "Higher runs first")
      ->type_name("N")
      ->group("Request");
  command
      .add_flag_callback(
          "--no-special-tokens",
          [&request] {
            request.set_add_special_tokens(false);
            request.set_parse_special_tokens(false);
          },
          "Neither adds special tokens to the prompt nor looks for them in its text")
      ->group("Request");
}

void PrintChoices(const Generation& generation, std::ostream& out) {
  for (size_t i = 0; i < generation.choices.size(); ++i) {
    out << "--- choice " << i << "\n" << generation.choices[i].text << "\n";
  }
}

// "24 tokens (length), first after 31 ms, then 133.0 tokens/s"
std::string Summary(const Generation& generation) {
  const v1::Usage& usage = generation.usage;
  std::string summary = absl::StrFormat("%d tokens", usage.completion_tokens());
  if (!generation.choices.empty()) {
    absl::StrAppend(&summary, " (", FinishReasonName(generation.choices[0].finish_reason), ")");
  }
  absl::StrAppendFormat(&summary, ", first after %.0f ms", usage.time_to_first_token_ms());
  if (usage.decode_tokens_per_second() > 0) {
    absl::StrAppendFormat(&summary, ", then %.1f tokens/s", usage.decode_tokens_per_second());
  }
  if (usage.evicted_tokens() > 0) {
    absl::StrAppendFormat(&summary, ", %d of %d prompt tokens evicted", usage.evicted_tokens(),
                          usage.prompt_tokens());
  }
  return summary;
}

}  // namespace

GenerateCommand::GenerateCommand(CLI::App& program)
    : command_(program.add_subcommand("generate", "Continues one prompt")) {
  command_->footer(kExamples);
  AddPromptOptions(*command_, prompt_);
  AddConnectionOptions(*command_, connection_);
  command_->add_option("--timeout", timeout_seconds_, "Gives up after this time; 0: never")
      ->type_name("SECONDS")
      ->check(CLI::NonNegativeNumber);
  AddSamplingOptions(*command_, *request_.mutable_sampling());
  AddStoppingOptions(*command_, *request_.mutable_stopping());
  AddCachePolicyOptions(*command_, *request_.mutable_cache());
  AddRequestOptions(*command_, request_);
  AddOutputOptions(*command_, request_, print_json_);
}

absl::Status GenerateCommand::Run(Terminal& terminal, InterruptWatcher* interrupts) {
  KVEC_RETURN_IF_ERROR(ReadPrompt(prompt_, terminal, request_));
  for (const std::string& stop : request_.stopping().stop()) {
    KVEC_RETURN_IF_ERROR(CheckUtf8("stop", stop));
  }
  KVEC_ASSIGN_OR_RETURN(const auto connection, Connection::Open(connection_));
  grpc::ClientContext context;
  if (timeout_seconds_ > 0) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(timeout_seconds_)));
  }
  const ScopedInterruptHandler cancel(interrupts, [&context] { context.TryCancel(); });
  // Several answers at once can't share a terminal: they are printed when all are there.
  const bool stream_text = !print_json_ && request_.sampling().n() <= 1;
  const auto print_text = [&](const v1::GenerateResponse& message) {
    if (stream_text) terminal.out << message.text() << std::flush;
  };
  Generation generation;
  const absl::Status status =
      Generate(connection->inference(), context, request_, print_text, generation);
  if (stream_text && !generation.choices.empty()) terminal.out << std::endl;
  KVEC_RETURN_IF_ERROR(status);
  if (print_json_) {
    terminal.out << ToJson(generation) << std::endl;
  } else if (!stream_text) {
    PrintChoices(generation, terminal.out);
  }
  if (!print_json_ && terminal.err_is_tty) terminal.err << Summary(generation) << std::endl;
  return absl::OkStatus();
}

}  // namespace kvec::coordinator::client
