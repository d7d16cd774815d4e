#include "coordinator/client/status_report.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "coordinator/client/text_table.h"
#include "nlohmann/json.hpp"

namespace kvec::coordinator::client {
namespace {

using Json = nlohmann::ordered_json;

// "kvec, 256 tokens", "full"
std::string PolicyName(const v1::CachePolicy& cache) {
  switch (cache.budget_case()) {
    case v1::CachePolicy::kBudgetTokens:
      return absl::StrCat(cache.policy(), ", ", cache.budget_tokens(), " tokens");
    case v1::CachePolicy::kBudgetShare:
      return absl::StrFormat("%s, %g of the prompt", cache.policy(), cache.budget_share());
    default:
      return cache.policy();
  }
}

// "stage/rank", or, where there are several groups, "replica/stage/rank".
std::string Place(const v1::WorkerStatus& worker, const v1::GetStatusResponse& status) {
  std::string place = absl::StrCat(worker.stage(), "/", worker.rank());
  return status.replicas_size() > 1 ? absl::StrCat(worker.replica(), "/", place) : place;
}

std::string ReplicaLines(const v1::GetStatusResponse& status) {
  std::string lines;
  if (status.replicas_size() < 2) return lines;
  for (int i = 0; i < status.replicas_size(); ++i) {
    const v1::ReplicaStatus& replica = status.replicas(i);
    absl::StrAppend(&lines, "replica ", i, " ", replica.serving() ? "serves" : "waits", ", ",
                    replica.num_requests_running(), " running, ", replica.num_requests_waiting(),
                    " waiting, ", replica.num_tokens(), " tokens\n");
  }
  return lines;
}

std::string WorkerTable(const v1::GetStatusResponse& status) {
  std::vector<std::vector<std::string>> rows = {
      {"worker", "host", "device", "state",
       status.replicas_size() > 1 ? "replica/stage/rank" : "stage/rank", "layers", "pages used",
       "KV arena", "weights", "resident", "last step"}};
  for (const v1::WorkerStatus& worker : status.workers()) {
    rows.push_back(
        {worker.worker_id(), worker.host(), worker.device(), worker.state(), Place(worker, status),
         worker.num_layers() == 0 ? "-"
                                  : absl::StrCat(worker.first_layer(), "-",
                                                 worker.first_layer() + worker.num_layers() - 1),
         absl::StrCat(worker.total_pages() - worker.free_pages(), " of ", worker.total_pages()),
         FormatBytes(worker.total_pages() * worker.page_bytes()),
         FormatBytes(worker.weight_bytes()), FormatBytes(worker.resident_bytes()),
         absl::StrFormat("%.1f ms", worker.last_step_ms())});
  }
  return FormatTable(rows);
}

std::string RequestTable(const v1::GetStatusResponse& status) {
  std::vector<std::vector<std::string>> rows = {
      {"request", "state", "prompt", "fed", "generated", "choices", "priority", "policy", "age"}};
  for (const v1::RequestStatus& request : status.requests()) {
    rows.push_back({request.request_id(), request.state(), absl::StrCat(request.prompt_tokens()),
                    absl::StrCat(request.prompt_tokens_fed()),
                    absl::StrCat(request.generated_tokens()), absl::StrCat(request.num_choices()),
                    absl::StrCat(request.priority()), request.policy(),
                    absl::StrFormat("%.1f s", request.age_seconds())});
  }
  std::string table = FormatTable(rows);
  const int64_t more = int64_t{status.num_requests_running()} + status.num_requests_waiting() -
                       status.requests_size();
  if (more > 0) absl::StrAppend(&table, "and ", more, " more\n");
  return table;
}

// Of a counter between two looks; 0 when the coordinator was started anew.
double Rate(uint64_t now, uint64_t before, double seconds) {
  return now < before || seconds <= 0 ? 0 : static_cast<double>(now - before) / seconds;
}

Json RequestJson(const v1::RequestStatus& request) {
  return {{"request_id", request.request_id()},
          {"state", request.state()},
          {"prompt_tokens", request.prompt_tokens()},
          {"prompt_tokens_fed", request.prompt_tokens_fed()},
          {"generated_tokens", request.generated_tokens()},
          {"num_choices", request.num_choices()},
          {"priority", request.priority()},
          {"policy", request.policy()},
          {"age_seconds", request.age_seconds()},
          {"replica", request.replica()}};
}

Json ReplicaJson(const v1::ReplicaStatus& replica) {
  return {{"serving", replica.serving()},
          {"num_requests_running", replica.num_requests_running()},
          {"num_requests_waiting", replica.num_requests_waiting()},
          {"waiting_prompt_tokens", replica.waiting_prompt_tokens()},
          {"num_tokens", replica.num_tokens()}};
}

Json ModelJson(const v1::GetModelResponse& model) {
  return {{"name", model.name()},
          {"family", model.family()},
          {"context_length", model.context_length()},
          {"vocab_size", model.vocab_size()},
          {"num_layers", model.num_layers()},
          {"num_heads", model.num_heads()},
          {"num_kv_heads", model.num_kv_heads()},
          {"head_dim", model.head_dim()},
          {"hidden_size", model.hidden_size()},
          {"has_chat_template", !model.chat_template().empty()},
          {"fingerprint", model.fingerprint()},
          {"cache_policies", model.cache_policies()},
          {"default_cache_policy", model.default_cache_policy().policy()}};
}

Json WorkerJson(const v1::WorkerStatus& worker) {
  return {{"worker_id", worker.worker_id()},
          {"host", worker.host()},
          {"device", worker.device()},
          {"state", worker.state()},
          {"replica", worker.replica()},
          {"stage", worker.stage()},
          {"rank", worker.rank()},
          {"first_layer", worker.first_layer()},
          {"num_layers", worker.num_layers()},
          {"total_pages", worker.total_pages()},
          {"free_pages", worker.free_pages()},
          {"cached_pages", worker.cached_pages()},
          {"page_bytes", worker.page_bytes()},
          {"weight_bytes", worker.weight_bytes()},
          {"resident_bytes", worker.resident_bytes()},
          {"peak_resident_bytes", worker.peak_resident_bytes()},
          {"last_step_ms", worker.last_step_ms()},
          {"seconds_since_heartbeat", worker.seconds_since_heartbeat()}};
}

}  // namespace

std::string StatusTable(const v1::GetModelResponse& model, const v1::GetStatusResponse& status) {
  std::string report = FormatTable({{"coordinator " + status.version()}});
  absl::StrAppendFormat(&report,
                        "model     %s (%s): %d layers, %d query and %d KV heads of %d, "
                        "context %d, vocabulary %d\n",
                        model.name(), model.family(), model.num_layers(), model.num_heads(),
                        model.num_kv_heads(), model.head_dim(), model.context_length(),
                        model.vocab_size());
  absl::StrAppend(
      &report, "serving   ", status.serving() ? "yes" : "no", ", up ",
      absl::FormatDuration(absl::Seconds(static_cast<int64_t>(status.uptime_seconds()))), "\n");
  absl::StrAppend(&report, "requests  ", status.num_requests_running(), " running, ",
                  status.num_requests_waiting(), " waiting with ", status.waiting_prompt_tokens(),
                  " prompt tokens\n", ReplicaLines(status));
  absl::StrAppend(&report, "tokens    ", status.prompt_tokens(), " prompt, ",
                  status.generated_tokens(), " generated in ", status.steps(), " steps, ",
                  status.preemptions(), " preemptions, ", status.prefix_cache_hits(), " of ",
                  status.prefix_cache_queries(), " prompt tokens found in the cache\n");
  absl::StrAppend(&report, "policies  ", absl::StrJoin(model.cache_policies(), ", "),
                  " (default: ", PolicyName(model.default_cache_policy()), ")\n\n");
  absl::StrAppend(&report, status.workers().empty() ? "no workers\n" : WorkerTable(status));
  return report;
}

std::string WatchTable(const v1::GetModelResponse& model, const v1::GetStatusResponse& status,
                       const std::optional<v1::GetStatusResponse>& last) {
  std::string report = StatusTable(model, status);
  if (last.has_value()) {
    const double seconds = status.uptime_seconds() - last->uptime_seconds();
    absl::StrAppendFormat(&report,
                          "\nrates     %.1f prompt and %.1f generated tokens/s, %.1f steps/s\n",
                          Rate(status.prompt_tokens(), last->prompt_tokens(), seconds),
                          Rate(status.generated_tokens(), last->generated_tokens(), seconds),
                          Rate(status.steps(), last->steps(), seconds));
  }
  absl::StrAppend(&report, "\n",
                  status.requests().empty() ? "no requests\n" : RequestTable(status));
  return report;
}

std::string StatusJson(const v1::GetModelResponse& model, const v1::GetStatusResponse& status) {
  Json workers = Json::array();
  for (const v1::WorkerStatus& worker : status.workers()) workers.push_back(WorkerJson(worker));
  Json replicas = Json::array();
  for (const v1::ReplicaStatus& replica : status.replicas()) {
    replicas.push_back(ReplicaJson(replica));
  }
  Json requests = Json::array();
  for (const v1::RequestStatus& request : status.requests()) {
    requests.push_back(RequestJson(request));
  }
  const Json report = {{"version", status.version()},
                       {"serving", status.serving()},
                       {"uptime_seconds", status.uptime_seconds()},
                       {"num_requests_running", status.num_requests_running()},
                       {"num_requests_waiting", status.num_requests_waiting()},
                       {"waiting_prompt_tokens", status.waiting_prompt_tokens()},
                       {"steps", status.steps()},
                       {"prompt_tokens", status.prompt_tokens()},
                       {"generated_tokens", status.generated_tokens()},
                       {"preemptions", status.preemptions()},
                       {"prefix_cache_queries", status.prefix_cache_queries()},
                       {"prefix_cache_hits", status.prefix_cache_hits()},
                       {"num_sessions", status.num_sessions()},
                       {"model", ModelJson(model)},
                       {"replicas", std::move(replicas)},
                       {"workers", std::move(workers)},
                       {"requests", std::move(requests)}};
  return report.dump();
}

}  // namespace kvec::coordinator::client
