#include "coordinator/server/coordinator_flags.h"

#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/version.h"

namespace kvec::coordinator::server {
namespace {

constexpr int kWrongUsage = 2;
constexpr double kMibBytes = 1 << 20;

constexpr char kDescription[] =
    R"(kvec-coordinator: answers kvec's gRPC service for one model. It schedules the requests and
streams the answers; kvec-worker processes, which attach to it, hold the weights and compute.)";

constexpr char kFooter[] = R"(
Example: one model on this machine, by one worker
  kvec-coordinator --model model.gguf
  kvec-worker --model model.gguf --coordinator 127.0.0.1:50052
  kvec generate --prompt "Once upon a time"

It prints one line on standard output when it listens, for scripts that let it pick the ports:
  kvec-coordinator ready: inference HOST:PORT cluster HOST:PORT
and behind it, for each --alias, alias NAME HOST:PORT.
SIGTERM and Ctrl-C stop it: new requests are refused, running ones may finish.
A config file has a line for each flag, without the dashes: parallel="tp=2,pp=1"
Exit codes: 0 done, 1 failed with a message on standard error, 2 wrong usage.)";

void AddNetworkFlags(CLI::App& app, CoordinatorFlags& flags) {
  app.add_option("--listen", flags.listen,
                 "HOST:PORT for clients; port 0 picks a free one. Beyond the loopback it wants "
                 "--tls-cert, and --tokens or --tls-client-ca")
      ->capture_default_str();
  app.add_option("--cluster-listen", flags.cluster_listen,
                 "HOST:PORT where workers attach; port 0 picks a free one. Beyond the loopback it "
                 "wants --cluster-tls-cert, and --join-token-file or --cluster-tls-client-ca")
      ->capture_default_str();
  app.add_option("--alias", flags.aliases,
                 "POLICY[-BUDGET]=HOST:PORT, for instance kvec-512=127.0.0.1:50061: there vLLM's "
                 "engine protocol is served for the model NAME@POLICY-BUDGET, with this cache "
                 "policy in every request. For gateways, whose users choose a model's name; may be "
                 "given several times. --listen serves that protocol too, with the default policy")
      ->allow_extra_args(false);
  app.add_option(
      "--metrics-listen", flags.metrics_listen,
      "HOST:PORT of Prometheus' /metrics, not encrypted and open to all (default: none)");
  app.add_option("--max-request-mib", flags.max_request_mib,
                 "Larger requests get RESOURCE_EXHAUSTED")
      ->capture_default_str()
      ->check(CLI::Range(0.001, 1024.0));
  app.add_option("--max-streams", flags.max_streams,
                 "Calls at a time of one connection; more wait at the client")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--drain-seconds", flags.drain_seconds,
                 "How long running requests may go on after SIGTERM")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 86400.0));
  app.add_option("--heartbeat-seconds", flags.heartbeat_seconds,
                 "A worker that is silent for so long, or stuck inside a Step, is given up")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
}

void AddCacheFlags(CLI::App& app, CoordinatorFlags& flags) {
  app.add_option("--policy", flags.policy,
                 "Cache policy of requests that name none; without it kvec for those that have a "
                 "budget, full for the others");
  CLI::Option* budget_tokens =
      app.add_option("--budget-tokens", flags.budget_tokens,
                     "Entries kept per KV head of requests that name no budget");
  app.add_option("--budget-share", flags.budget_share, "The same as a share of the prompt")
      ->excludes(budget_tokens);
  app.add_option("--prefill-bound-tokens", flags.prefill_bound_tokens,
                 "Most entries per KV head while a prompt is read, of requests that name no such "
                 "bound; 0: none")
      ->capture_default_str();
  app.add_option("--decode-interval-tokens", flags.decode_interval_tokens,
                 "Generated tokens after which the cache is evicted down to the budget again, of "
                 "requests that do not say; 0: never")
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--prefix-caching",
         [&flags](const std::string& value) { flags.scheduler.prefix_caching = value == "on"; },
         "on: prompts that begin alike share pages and their prefill; what is kept for prompts to "
         "come goes as soon as a request needs its pages. Answers don't depend on it. Without "
         "effect on models with sliding windows")
      ->default_str("on")
      ->check(CLI::IsMember({"on", "off"}));
  app.add_option("--session-ttl-seconds", flags.session_ttl_seconds,
                 "A session ends when it was not used for so long")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--max-sessions", flags.scheduler.max_sessions,
                 "Sessions at a time; a new one takes the place of the least recently used")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 20));
}

void AddSchedulingFlags(CLI::App& app, CoordinatorFlags& flags) {
  app.add_option(
         "--parallel", flags.parallel,
         "Shape of a group: tp ranks share every layer's heads, pp stages hold a part of "
         "the layers each; tp·pp workers make a group, and dp groups serve, each with a whole "
         "model. auto: groups as small as the memory of the workers that attach allows, ranks "
         "of a stage on one host")
      ->capture_default_str();
  app.add_option("--step-tokens", flags.scheduler.step_tokens,
                 "Tokens of a Step at most: larger is more throughput, and longer waits between "
                 "the tokens of running answers")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  app.add_option("--mixed-prompt-tokens", flags.scheduler.mixed_prompt_tokens,
                 "Prompt tokens of a Step at most while answers are being generated")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  app.add_option("--max-running-sequences", flags.scheduler.max_running_sequences,
                 "Sequences that run at a time; more wait")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  app.add_option("--max-waiting-requests", flags.scheduler.max_waiting_requests,
                 "Requests that may wait; more get RESOURCE_EXHAUSTED")
      ->capture_default_str();
  app.add_option("--max-prompt-tokens", flags.scheduler.max_prompt_tokens,
                 "Longer prompts get INVALID_ARGUMENT; of a session only what a request adds to it "
                 "counts. 0: what the context has room for")
      ->capture_default_str();
  app.add_option("--max-waiting-tokens", flags.scheduler.max_waiting_tokens,
                 "Prompt tokens of all waiting requests; more get RESOURCE_EXHAUSTED")
      ->capture_default_str();
}

absl::Status CheckAddress(absl::string_view flag, absl::string_view address) {
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": \"", address, "\" is not HOST:PORT with a port up to 65535"));
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<int> ParseCoordinatorFlags(int argc, char** argv, CoordinatorFlags& flags) {
  CLI::App app(kDescription, "kvec-coordinator");
  app.footer(kFooter);
  app.set_version_flag("--version", absl::StrCat("kvec-coordinator ", Version()));
  app.set_config("--config", "", "Reads flags from an INI or TOML file");
  app.add_option("--model", flags.model, "GGUF file, or Hugging Face folder")->required();
  app.add_option("--model-name", flags.model_name,
                 "Name that clients see (default: the model's own)");
  AddNetworkFlags(app, flags);
  AddSecurityFlags(app, flags.security);
  AddCacheFlags(app, flags);
  AddSchedulingFlags(app, flags);
  app.add_option("--log-level", flags.log_level, "debug, info, warning or error")
      ->capture_default_str()
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  return std::nullopt;
}

absl::StatusOr<CoordinatorServer::Options> ServerOptions(const CoordinatorFlags& flags) {
  CoordinatorServer::Options options;
  options.listen = flags.listen;
  options.cluster_listen = flags.cluster_listen;
  options.metrics_listen = flags.metrics_listen;
  for (const auto& [flag, address] :
       {std::pair{"--listen", &flags.listen}, std::pair{"--cluster-listen", &flags.cluster_listen},
        std::pair{"--metrics-listen", &flags.metrics_listen}}) {
    if (address == &flags.metrics_listen && address->empty()) continue;
    if (absl::Status status = CheckAddress(flag, *address); !status.ok()) return status;
  }
  for (const std::string& text : flags.aliases) {
    absl::StatusOr<ModelAlias> alias = ParseModelAlias(text);
    absl::Status status = alias.ok() ? CheckAddress("address", alias->listen) : alias.status();
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--alias: ", status.message()));
    }
    options.aliases.push_back(*std::move(alias));
  }
  if (flags.parallel == "auto") {
    options.shape.reset();
  } else {
    absl::StatusOr<cluster::ParallelShape> shape = cluster::ParseParallelShape(flags.parallel);
    if (!shape.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--parallel: ", shape.status().message()));
    }
    options.shape = *shape;
  }
  if (absl::Status status = ApplySecurity(flags.security, options); !status.ok()) return status;
  options.max_streams = static_cast<int>(flags.max_streams);
  options.max_request_bytes = static_cast<int>(flags.max_request_mib * kMibBytes);
  options.heartbeat_timeout = absl::Seconds(flags.heartbeat_seconds);
  options.scheduler = flags.scheduler;
  options.scheduler.session_ttl = absl::Seconds(flags.session_ttl_seconds);
  options.default_cache.set_policy(flags.policy);
  if (flags.budget_tokens.has_value()) {
    options.default_cache.set_budget_tokens(*flags.budget_tokens);
  }
  if (flags.budget_share.has_value()) options.default_cache.set_budget_share(*flags.budget_share);
  if (flags.prefill_bound_tokens > 0) {
    options.default_cache.set_prefill_bound_tokens(flags.prefill_bound_tokens);
  }
  if (flags.decode_interval_tokens > 0) {
    options.default_cache.set_decode_interval_tokens(flags.decode_interval_tokens);
  }
  return options;
}

}  // namespace kvec::coordinator::server
