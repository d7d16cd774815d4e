#ifndef KVEC_COORDINATOR_CLIENT_REQUEST_OPTIONS_H_
#define KVEC_COORDINATOR_CLIENT_REQUEST_OPTIONS_H_

#include <string>

#include "CLI/CLI.hpp"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// Each adds the flags of one message to `command`; parsing writes the given ones into the message,
// which must outlive the parse. What no flag names stays unset: the coordinator's default. Ranges
// are the coordinator's to check; a value that is no number at all is wrong usage here.
void AddSamplingOptions(CLI::App& command, v1::SamplingParameters& sampling);
void AddStoppingOptions(CLI::App& command, v1::StoppingCriteria& stopping);
void AddCachePolicyOptions(CLI::App& command, v1::CachePolicy& cache);

// "256" is a number of tokens, "0.25" a share of the prompt. Throws CLI::ValidationError on
// anything else, as CLI11's callbacks must.
void ParseBudget(const std::string& text, v1::CachePolicy& cache);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_REQUEST_OPTIONS_H_
