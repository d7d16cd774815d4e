#include "coordinator/client/connection_options.h"

#include "common/security/client_flags.h"

namespace kvec::coordinator::client {

CLI::Option* AddConnectionOptions(CLI::App& command, ConnectionOptions& options) {
  CLI::Option* target = command.add_option("--target", options.target, "The coordinator")
                            ->type_name("HOST:PORT")
                            ->capture_default_str();
  security::AddClientTlsFlags(command, options.tls);
  command
      .add_option("--token-file", options.token_file,
                  "File with the bearer token (default: the environment's KVEC_TOKEN)")
      ->type_name("FILE")
      ->group("Security");
  command
      .add_flag("--insecure", options.insecure,
                "Sends the token to another machine although nothing is encrypted")
      ->group("Security");
  return target;
}

}  // namespace kvec::coordinator::client
