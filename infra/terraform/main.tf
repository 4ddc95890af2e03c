data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  partition  = data.aws_partition.current.partition
  account_id = data.aws_caller_identity.current.account_id
  # Provider 5 calls it "name", provider 6 "region"; "id" is the same in both.
  region = data.aws_region.current.id

  # arn:PARTITION:sqs:REGION:ACCOUNT:NAME
  queue       = split(":", var.queue_arn)
  queue_url   = "https://sqs.${local.queue[3]}.${data.aws_partition.current.dns_suffix}/${local.queue[4]}/${local.queue[5]}"
  ecs_arn     = "arn:${local.partition}:ecs:${local.region}:${local.account_id}"
  service_arn = "${local.ecs_arn}:service/${var.ecs_cluster_name}/${var.ecs_service_name}"

  hard_min_tasks = coalesce(var.hard_min_tasks, var.min_tasks)
  hard_max_tasks = coalesce(var.hard_max_tasks, var.max_tasks)

  environment = {
    ECS_CLUSTER           = var.ecs_cluster_name
    SERVICE_NAME          = var.ecs_service_name
    QUEUE_TYPE            = "sqs"
    SQS_QUEUE_URL         = local.queue_url
    MIN_TASKS             = var.min_tasks
    MAX_TASKS             = var.max_tasks
    HARD_MIN_TASKS        = local.hard_min_tasks
    HARD_MAX_TASKS        = local.hard_max_tasks
    SCALE_UP_THRESHOLD    = var.scale_up_threshold
    SCALE_DOWN_THRESHOLD  = var.scale_down_threshold
    TASKS_PER_MESSAGE     = var.tasks_per_message
    MAX_SCALE_DOWN_FACTOR = var.max_scale_down_factor
    SCALE_OUT_COOLDOWN    = var.scale_out_cooldown
    SCALE_IN_COOLDOWN     = var.scale_in_cooldown
    SCALING_STEP_COUNT    = var.scaling_step_count
    USE_COMBINED_MESSAGES = var.use_combined_messages
    ALLOWED_TARGETS       = "ecs:${local.region}/*/${var.ecs_cluster_name}/${var.ecs_service_name}"
    ALLOWED_SOURCES       = "sqs:${local.queue[3]}/*/${local.queue[5]}"
    S3_CONFIG_BUCKET      = aws_s3_bucket.state.id
    STATE_PREFIX          = local.state_prefix
    DRY_RUN               = var.dry_run
    LOG_LEVEL             = var.log_level
  }
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_117:It calls public AWS APIs only. A VPC would add a NAT gateway to its price and to what can break.
  #checkov:skip=CKV_AWS_173:The environment holds names and numbers, no secrets. Lambda encrypts it with its own key.
  #checkov:skip=CKV_AWS_272:Whoever signs the package brings a signing profile. None is assumed here.
  function_name                  = var.function_name
  description                    = "Keeps the desired count of an ECS service equal to the work in an SQS queue."
  role                           = aws_iam_role.function.arn
  filename                       = var.local_existing_package
  source_code_hash               = filebase64sha256(var.local_existing_package)
  handler                        = "bootstrap"
  runtime                        = "provided.al2023"
  architectures                  = var.architectures
  memory_size                    = var.memory_size
  timeout                        = var.timeout
  reserved_concurrent_executions = var.reserved_concurrent_executions
  tags                           = var.tags

  environment {
    variables = merge({ for name, value in local.environment : name => tostring(value) }, var.environment_variables)
  }

  logging_config {
    log_group             = aws_cloudwatch_log_group.this.name
    log_format            = "JSON"
    application_log_level = var.log_level
  }

  tracing_config {
    mode = "PassThrough"
  }

  dead_letter_config {
    target_arn = aws_sqs_queue.dead_letters.arn
  }

  lifecycle {
    precondition {
      condition     = var.min_tasks <= var.max_tasks
      error_message = "min_tasks (${var.min_tasks}) must not be above max_tasks (${var.max_tasks})."
    }
    precondition {
      condition     = local.hard_min_tasks <= var.min_tasks && var.max_tasks <= local.hard_max_tasks
      error_message = "min_tasks and max_tasks must lie within hard_min_tasks (${local.hard_min_tasks}) and hard_max_tasks (${local.hard_max_tasks})."
    }
    precondition {
      condition     = var.scale_down_threshold <= var.scale_up_threshold
      error_message = "scale_down_threshold (${var.scale_down_threshold}) must not be above scale_up_threshold (${var.scale_up_threshold})."
    }
  }

  # Lambda checks at creation that the role may write to the dead-letter queue.
  depends_on = [aws_iam_role_policy.function]
}

# A tick that could not run is worthless a minute later. Lambda's defaults would retry it twice and keep a throttled one
# for six hours.
resource "aws_lambda_function_event_invoke_config" "this" {
  function_name                = aws_lambda_function.this.function_name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = 60
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158:No secrets are logged. CloudWatch Logs encrypts with its own key.
  name              = "/aws/lambda/${var.function_name}"
  retention_in_days = var.cloudwatch_logs_retention_in_days
  tags              = var.tags
}

# Ticks that failed or could not be delivered, with the error in the message attributes: evidence, never to be replayed.
resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.function_name}-dead-letters"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600
  tags                      = var.tags
}
