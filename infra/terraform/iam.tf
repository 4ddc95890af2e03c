data "aws_iam_policy_document" "function" {
  statement {
    sid       = "ReadQueue"
    actions   = ["sqs:GetQueueAttributes"]
    resources = [var.queue_arn]
  }

  statement {
    sid       = "ScaleService"
    actions   = ["ecs:DescribeServices", "ecs:UpdateService"]
    resources = [local.service_arn]
  }

  # The action supports no resources.
  statement {
    sid       = "SeeOtherScaler"
    actions   = ["application-autoscaling:DescribeScalableTargets"]
    resources = ["*"]
  }

  # ListTasks of a service has no resource to name, only a cluster to narrow it by.
  statement {
    sid       = "ListTasks"
    actions   = ["ecs:ListTasks"]
    resources = ["*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = ["${local.ecs_arn}:cluster/${var.ecs_cluster_name}"]
    }
  }

  statement {
    sid       = "SeeTaskProtection"
    actions   = ["ecs:GetTaskProtection"]
    resources = ["${local.ecs_arn}:task/${var.ecs_cluster_name}/*"]
  }

  # UpdateService can do more than set a number. This closes the way to a shell in the tasks. The condition does not
  # match a request without the field, which is what Tidegate sends.
  statement {
    sid       = "NeverOpenAShell"
    effect    = "Deny"
    actions   = ["ecs:UpdateService"]
    resources = [local.service_arn]

    condition {
      test     = "StringEquals"
      variable = "ecs:enable-execute-command"
      values   = ["true"]
    }
  }

  statement {
    sid       = "KeepState"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.state.arn}/${local.state_prefix}*"]
  }

  # Without it S3 answers 403 instead of 404 for state that does not exist yet.
  statement {
    sid       = "SeeThatStateIsMissing"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.state.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["${local.state_prefix}*"]
    }
  }

  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }

  statement {
    sid       = "KeepFailedTicks"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.dead_letters.arn]
  }
}

data "aws_iam_policy_document" "function_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "function" {
  name_prefix          = "${substr(var.function_name, 0, 29)}-function-"
  description          = "What ${var.function_name} may do, on one queue, one service and its own state."
  assume_role_policy   = data.aws_iam_policy_document.function_trust.json
  permissions_boundary = var.role_permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "function" {
  name   = "tidegate"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.function.json
}

data "aws_iam_policy_document" "schedule" {
  statement {
    sid       = "InvokeFunction"
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_function.this.arn]
  }

  statement {
    sid       = "KeepUndeliveredTicks"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.dead_letters.arn]
  }
}

data "aws_iam_policy_document" "schedule_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:scheduler:${local.region}:${local.account_id}:schedule-group/default"]
    }
  }
}

resource "aws_iam_role" "schedule" {
  name_prefix          = "${substr(var.function_name, 0, 29)}-schedule-"
  description          = "Lets EventBridge Scheduler invoke ${var.function_name} and nothing else."
  assume_role_policy   = data.aws_iam_policy_document.schedule_trust.json
  permissions_boundary = var.role_permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy" "schedule" {
  name   = "tidegate-schedule"
  role   = aws_iam_role.schedule.id
  policy = data.aws_iam_policy_document.schedule.json
}
