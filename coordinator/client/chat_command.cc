#include "coordinator/client/chat_command.h"

#include <istream>
#include <ostream>

#include "common/status_macros.h"
#include "coordinator/client/generation.h"
#include "coordinator/client/prompt_options.h"
#include "coordinator/client/request_options.h"

namespace kvec::coordinator::client {
namespace {

constexpr char kExamples[] = R"(Ctrl-C cancels an answer, Ctrl-D leaves.

Examples:
  kvec chat
  kvec chat --system "Answer in one sentence." --temperature 0.7 --max-tokens 200
  printf 'Hello!\nWhat did I just say?\n' | kvec chat        each line is a turn
)";

}  // namespace

ChatCommand::ChatCommand(CLI::App& program)
    : command_(program.add_subcommand("chat", "Talks with a chat model")) {
  command_->footer(kExamples);
  AddConnectionOptions(*command_, connection_);
  command_->add_option("--system", system_, "System message in front of the talk")
      ->type_name("TEXT");
  AddSamplingOptions(*command_, *request_.mutable_sampling());
  AddStoppingOptions(*command_, *request_.mutable_stopping());
  AddCachePolicyOptions(*command_, *request_.mutable_cache());
}

absl::Status ChatCommand::Run(Terminal& terminal, InterruptWatcher* interrupts) {
  KVEC_ASSIGN_OR_RETURN(const auto connection, Connection::Open(connection_));
  if (system_.has_value()) {
    KVEC_RETURN_IF_ERROR(CheckUtf8("system", *system_));
    AddMessage("system", *system_);
  }
  const ScopedInterruptHandler remind(terminal.in_is_tty ? interrupts : nullptr, [&terminal] {
    terminal.err << "\n(Ctrl-D leaves)\n> " << std::flush;
  });
  std::string question;
  while (true) {
    if (terminal.in_is_tty) terminal.err << "> " << std::flush;
    if (!std::getline(terminal.in, question)) break;
    if (question.empty()) continue;
    absl::Status status = Answer(*connection, question, terminal, interrupts);
    if (status.ok()) continue;
    if (!terminal.in_is_tty) return status;
    terminal.err << status.message() << std::endl;
  }
  if (terminal.in_is_tty) terminal.err << std::endl;
  return absl::OkStatus();
}

absl::Status ChatCommand::Answer(const Connection& connection, const std::string& question,
                                 Terminal& terminal, InterruptWatcher* interrupts) {
  KVEC_RETURN_IF_ERROR(CheckUtf8("message", question));
  AddMessage("user", question);
  grpc::ClientContext context;
  const ScopedInterruptHandler cancel(interrupts, [&context] { context.TryCancel(); });
  Generation generation;
  absl::Status status = Generate(
      connection.inference(), context, request_,
      [&](const v1::GenerateResponse& message) { terminal.out << message.text() << std::flush; },
      generation);
  const std::string answer =
      generation.choices.empty() ? std::string() : generation.choices.front().text;
  if (!answer.empty()) terminal.out << std::endl;
  if (status.ok() || !answer.empty()) {
    // A cancelled answer was read all the same: what follows may refer to it.
    AddMessage("assistant", answer);
  } else {
    request_.mutable_chat()->mutable_messages()->RemoveLast();
  }
  return status;
}

void ChatCommand::AddMessage(const std::string& role, const std::string& content) {
  v1::ChatMessage* message = request_.mutable_chat()->add_messages();
  message->set_role(role);
  message->set_content(content);
}

}  // namespace kvec::coordinator::client
