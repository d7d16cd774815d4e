#include "coordinator/client/command_line.h"

#include <algorithm>
#include <ostream>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/version.h"
#include "coordinator/client/bench_command.h"
#include "coordinator/client/chat_command.h"
#include "coordinator/client/coverage_command.h"
#include "coordinator/client/generate_command.h"
#include "coordinator/client/plan_command.h"
#include "coordinator/client/status_command.h"
#include "coordinator/client/token_command.h"
#include "coordinator/client/trace_command.h"

namespace kvec::coordinator::client {
namespace {

constexpr char kExamples[] = R"(Start here:
  kvec status                                    is a coordinator there, and ready?
  kvec generate --prompt "Once upon a time"      one answer, as it is written
  kvec chat                                      a talk
  kvec coverage --budget 128 "A long text"       what does eviction keep of it? (a page)
  kvec bench --model model.gguf                  how fast is this machine?
  kvec trace --steps 100 --out trace.json        where does the time go?
  kvec plan --model config.json --card H100-80   which GPUs does a model fit?
  kvec token --name alice                        a token for a coordinator that asks for one

`kvec COMMAND --help` shows a command's options with examples.
Exit codes: 0 done, 1 failed with a message, 2 wrong usage.)";

ExitCode Report(const absl::Status& status, Terminal& terminal) {
  if (status.ok()) return ExitCode::kDone;
  terminal.err << "kvec: " << absl::StatusCodeToString(status.code()) << ": " << status.message()
               << std::endl;
  return ExitCode::kFailed;
}

}  // namespace

ExitCode RunCommandLine(const std::vector<std::string>& arguments, Terminal& terminal,
                        InterruptWatcher* interrupts) {
  CLI::App program("Talks to a kvec coordinator.", "kvec");
  program.footer(kExamples);
  program.set_version_flag("--version", absl::StrCat("kvec ", Version()));
  program.set_config("--config", "", "Reads options from an INI or TOML file");
  program.require_subcommand(1);
  GenerateCommand generate(program);
  ChatCommand chat(program);
  CoverageCommand coverage(program);
  StatusCommand status(program);
  BenchCommand bench(program);
  TraceCommand trace(program);
  TokenCommand token(program);
  PlanCommand plan(program);
  try {
    // CLI11 takes the arguments from last to first.
    program.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    return program.exit(error, terminal.out, terminal.err) == 0 ? ExitCode::kDone
                                                                : ExitCode::kWrongUsage;
  }
  if (generate.is_chosen()) return Report(generate.Run(terminal, interrupts), terminal);
  if (chat.is_chosen()) return Report(chat.Run(terminal, interrupts), terminal);
  if (coverage.is_chosen()) return Report(coverage.Run(terminal, interrupts), terminal);
  if (bench.is_chosen()) return Report(bench.Run(terminal), terminal);
  if (trace.is_chosen()) return Report(trace.Run(terminal, interrupts), terminal);
  if (plan.is_chosen()) return Report(plan.Run(terminal), terminal);
  if (token.is_chosen()) return Report(token.Run(terminal), terminal);
  return Report(status.Run(terminal, interrupts), terminal);
}

}  // namespace kvec::coordinator::client
